package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/clock"
)

// beFirstOf is the environment variable that makes the test binary act as the first process of
// a container, with a shell script as its work. It becomes a subreaper, to which orphans come as
// they do to pid 1 (prctl(2)).
const beFirstOf = "HOLDFAST_TEST_FIRST"

func TestMain(m *testing.M) {
	script := os.Getenv(beFirstOf)
	if script == "" {
		os.Exit(m.Run())
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	first := First{Path: "/bin/sh", Args: []string{"-c", script}, Say: func(text string) { fmt.Println(text) }}
	status, err := first.Run()
	if err != nil {
		panic(err)
	}
	os.Exit(status)
}

// contained is such a first process, with the output of everything that runs below it.
type contained struct {
	cmd *exec.Cmd
	out output
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func newContained(t *testing.T, script string) *contained {
	t.Helper()
	c := &contained{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = []string{beFirstOf + "=" + script, "PATH=" + os.Getenv("PATH")}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.cmd.WaitDelay = time.Second // its descendants may still have the output open
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // also ends its child
		_ = c.cmd.Wait()
	})
	return c
}

func (c *contained) says(t *testing.T, words string) {
	t.Helper()
	if !clock.Within(20*time.Second, 5*time.Millisecond, func() bool { return strings.Contains(c.out.String(), words) }) {
		t.Fatalf("it does not say %q: %q", words, c.out.String())
	}
}

// ends waits for the end of the first process, and returns its exit status.
func (c *contained) ends(t *testing.T) int {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end: %q", c.out.String())
		return 0
	}
}

func TestTheFirstProcessWaitsForOrphans(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		if err := syscall.Mkfifo(filepath.Join(dir, fmt.Sprintf("wait%d", i+1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Each orphan writes its pid, and ends when the test tells it to.
	c := newContained(t, fmt.Sprintf(`for i in 1 2 3; do (sh -c 'echo $$ >> %[1]s/orphans; exec cat %[1]s/wait$0' $i & ) ; done; echo ready; exec sleep 1000`, dir))
	c.says(t, "ready")
	var orphans []string
	for deadline := time.Now().Add(20 * time.Second); len(orphans) < 3; time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(dir, "orphans"))
		if orphans = strings.Fields(string(b)); time.Now().After(deadline) {
			t.Fatalf("orphans: %q", orphans)
		}
	}
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("wait%d", i+1)), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range orphans {
		if !clock.Within(20*time.Second, 5*time.Millisecond, func() bool { return !exists("/proc/" + pid) }) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			t.Fatalf("nobody waited for an orphan: %s", stat)
		}
	}
}

func TestEverySignalThatEndsAContainerReachesItsSupervisorAsTheEnd(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		c := newContained(t, `trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.01; done`)
		c.says(t, "ready")
		if err := c.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		c.says(t, "told")
		if status := c.ends(t); status != 7 {
			t.Errorf("%v: exit status %d", sig, status)
		}
	}
}

func TestASupervisorThatWasKilledIsStartedAgain(t *testing.T) {
	died := filepath.Join(t.TempDir(), "died")
	c := newContained(t, fmt.Sprintf(`test -e %[1]s && { echo again; exit 5; }; touch %[1]s; kill -KILL $$`, died))
	c.says(t, "was killed (killed) and is started again")
	c.says(t, "again")
	if status := c.ends(t); status != 5 {
		t.Errorf("exit status %d", status)
	}
}

func TestASupervisorThatWasKilledAfterItWasToldToEndIsNot(t *testing.T) {
	c := newContained(t, `trap 'kill -KILL $$' TERM; echo ready; while :; do sleep 0.01; done`)
	c.says(t, "ready")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := c.ends(t); status != 128+int(syscall.SIGKILL) {
		t.Errorf("exit status %d: %q", status, c.out.String())
	}
}

// node returns a shell command for a process that outlives the shell, until the file end exists.
func node(dir string) string {
	return fmt.Sprintf(`(sh -c 'until test -e %s/end; do sleep 0.01; done' & )`, dir)
}

// A Go program that panics, or runs out of memory, exits with status 2.
func TestASupervisorThatFailsWhileNodesRunIsStartedAgain(t *testing.T) {
	dir := t.TempDir()
	c := newContained(t, fmt.Sprintf(`test -e %[1]s/died && { echo again; touch %[1]s/end; exit 0; }; touch %[1]s/died; %[2]s; exit 2`, dir, node(dir)))
	c.says(t, "failed (exit status 2) while nodes run")
	c.says(t, "again")
	if status := c.ends(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestASupervisorThatFailsAtItsStartIsNotStartedAgain(t *testing.T) {
	dir := t.TempDir()
	c := newContained(t, fmt.Sprintf(`test -e %[1]s/died && { echo again; exit 0; }; touch %[1]s/died; %[2]s; touch %[1]s/end; exit 2`, dir, node(dir)))
	if status := c.ends(t); status != 2 || strings.Contains(c.out.String(), "again") {
		t.Errorf("exit status %d: %q", status, c.out.String())
	}
}

// The nodes are not killed with the container, but taken down by the next supervisor.
func TestASignalWhileThereIsNoSupervisorIsForTheNextOne(t *testing.T) {
	dir := t.TempDir()
	c := newContained(t, fmt.Sprintf(`test -e %[1]s/died && { trap 'echo down; touch %[1]s/end; exit 0' TERM; while :; do sleep 0.01; done; }
		touch %[1]s/died; %[2]s; kill -KILL $$`, dir, node(dir)))
	c.says(t, "is started again") // the new one does not handle signals yet
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.says(t, "down")
	if status := c.ends(t); status != 0 {
		t.Errorf("exit status %d: %q", status, c.out.String())
	}
}

func TestASupervisorThatDiesOfTheSignalIsFollowedByOneThatTakesTheNodesDown(t *testing.T) {
	dir := t.TempDir()
	c := newContained(t, fmt.Sprintf(`test -e %[1]s/died && { trap 'echo down; touch %[1]s/end; exit 0' TERM; while :; do sleep 0.01; done; }
		touch %[1]s/died; %[2]s; echo ready; exec sleep 1000`, dir, node(dir)))
	c.says(t, "ready")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.says(t, "down")
	if status := c.ends(t); status != 0 {
		t.Errorf("exit status %d: %q", status, c.out.String())
	}
}
