//go:build linux

package cli

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// openTerminal opens a terminal. What is written to terminal can be read from screen.
func openTerminal(t *testing.T) (terminal, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal, screen
}

func TestStatusOnATerminalCutsOffNoReason(t *testing.T) {
	terminal, screen := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	const why = "/health answers 400 Bad Request to a request for the host localhost (health.host): Invalid HTTP_HOST header"
	st := supervise.Status{Stack: "shop", Nodes: []supervise.NodeStatus{
		{Name: "shop-1", Kind: plan.Web, App: "shop", State: supervise.Starting, Address: "127.0.0.1:28792", Detail: why},
	}}
	if err := printStatus(&globals{}, terminal, st); err != nil {
		t.Fatal(err)
	}
	var shown string
	for in := bufio.NewReader(screen); !strings.HasPrefix(shown, "shop-1"); {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		shown = line
	}
	if !strings.Contains(shown, why) || !strings.Contains(shown, yellow) {
		t.Errorf("it shows %q", shown)
	}
}

func TestLogsSteerNoTerminalAndReachAPipeAsTheyAre(t *testing.T) {
	const evil = "\x1b[32mgreen\x1b[0m \x1b[2J\x1b]0;title\a\u202eend"
	state := t.TempDir()
	if err := os.MkdirAll(filepath.Join(state, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "logs", "web-1.log"), []byte(evil+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &globals{state: state, getenv: environment(nil)}

	var pipe strings.Builder
	if err := showLogs(t.Context(), g, &pipe, logsOptions{name: "web-1"}); err != nil || !strings.HasSuffix(pipe.String(), evil+"\n") {
		t.Errorf("into a pipe: %q, %v", pipe.String(), err)
	}

	terminal, screen := openTerminal(t)
	if err := showLogs(t.Context(), g, terminal, logsOptions{name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	shown, err := bufio.NewReader(screen).ReadString('\n')
	if want := `green \x1b[2J\x1b]0;title\a\u202eend`; err != nil || !strings.HasSuffix(strings.TrimRight(shown, "\r\n"), want) {
		t.Errorf("on a terminal: %q, %v; want %q", shown, err, want)
	}
}
