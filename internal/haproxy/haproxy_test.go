package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// start runs a real HAProxy. Both of its backends, "web" and "tcp", have the server web-1, which is
// up; "web" also has web-2, which is down.
func start(t *testing.T) *Client { return startWith(t, "") }

// startWith adds lines to the configuration.
func startWith(t *testing.T, more string) *Client {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	t.Cleanup(up.Close)
	down := httptest.NewServer(nil)
	down.Close()

	// A unix socket needs a short path, and t.TempDir is long.
	dir, err := os.MkdirTemp("/tmp", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "haproxy.sock")
	config := filepath.Join(dir, "haproxy.cfg")
	text := fmt.Sprintf(`
global
    stats socket %s mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend web
    server web-1 %s check inter 100ms rise 1 fall 1
    server web-2 %s check inter 100ms rise 1 fall 1
backend tcp
    mode tcp
    server web-1 %[2]s check inter 100ms rise 1 fall 1
`, socket, up.Listener.Addr(), down.Listener.Addr()) + more
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t), "-db", "-f", config)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c := NewClient(socket)
	eventually(t, func() error { _, err := c.Info(t.Context()); return err })
	return c
}

// program returns the path of HAProxy.
func program(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy"
		if _, err := os.Stat(path); err != nil {
			t.Fatal("this test needs haproxy (scripts/setup installs it)")
		}
	}
	return path
}

// eventually waits until a condition holds.
func eventually(t *testing.T, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// hasState returns an error unless a server has this state.
func hasState(t *testing.T, c *Client, backend, server, state string) error {
	stats, err := c.Stat(t.Context())
	if err != nil {
		return err
	}
	for _, s := range stats {
		if s.Backend == backend && s.Server == server {
			if s.State() != state || !s.Checked() && state != "MAINT" {
				return fmt.Errorf("%s/%s is %q, checked: %q, want %s", backend, server, s.Status, s.CheckStatus, state)
			}
			return nil
		}
	}
	return fmt.Errorf("no row for %s/%s in %v", backend, server, stats)
}

func TestInfoTellsOfTheProcess(t *testing.T) {
	info, err := start(t).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(info.Version, ".") || info.PID <= 1 || info.MaxConnections <= 0 || info.TotalConnections < 1 || info.Stopping {
		t.Errorf("%+v", info)
	}
}

func TestStatTellsWhoIsUpAndWhoIsDown(t *testing.T) {
	c := start(t)
	eventually(t, func() error {
		return errors.Join(hasState(t, c, "web", "web-1", "UP"), hasState(t, c, "web", "web-2", "DOWN"))
	})
	stats, err := c.Stat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stats {
		if s.Server == "web-2" && !strings.HasPrefix(s.CheckStatus, "L4CON") && !strings.HasPrefix(s.CheckStatus, "* L4CON") {
			t.Errorf("web-2's check: %q", s.CheckStatus)
		}
		if want := strings.HasPrefix(s.Server, "web-"); want != (s.Address != "") {
			t.Errorf("%s/%s: the address is %q", s.Backend, s.Server, s.Address)
		}
		if s.IsServer() == (s.Server == "BACKEND") {
			t.Errorf("%s: IsServer is %v", s.Server, s.IsServer())
		}
	}
}

func TestAServerIsDrainedAndComesBack(t *testing.T) {
	c := start(t)
	eventually(t, func() error {
		return errors.Join(hasState(t, c, "web", "web-1", "UP"), hasState(t, c, "tcp", "web-1", "UP"))
	})
	for _, step := range []struct {
		state State
		want  string
	}{{Drain, "DRAIN"}, {Maint, "MAINT"}, {Ready, "UP"}} {
		if err := c.SetState(t.Context(), "web", "web-1", step.state); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { return hasState(t, c, "web", "web-1", step.want) })
		if err := hasState(t, c, "tcp", "web-1", "UP"); err != nil {
			t.Errorf("another backend's server changed too: %v", err)
		}
	}
}

func TestANodeIsDrainedInEveryBackend(t *testing.T) {
	c := start(t)
	n, err := c.SetStateEverywhere(t.Context(), "web-1", Drain)
	if n != 2 || err != nil {
		t.Fatalf("%d, %v; want 2 backends", n, err)
	}
	eventually(t, func() error {
		return errors.Join(hasState(t, c, "web", "web-1", "DRAIN"), hasState(t, c, "tcp", "web-1", "DRAIN"))
	})
	if _, err := c.SetStateEverywhere(t.Context(), "web-9", Drain); !errors.Is(err, ErrNoServer) {
		t.Errorf("web-9: %v, want ErrNoServer", err)
	}
}

func TestWhatIsNotThereCannotBeSet(t *testing.T) {
	c := start(t)
	for _, at := range [][2]string{{"web", "web-9"}, {"nowhere", "web-1"}} {
		if err := c.SetState(t.Context(), at[0], at[1], Drain); !errors.Is(err, ErrNoServer) {
			t.Errorf("%v: %v, want ErrNoServer", at, err)
		}
	}
	for _, at := range [][2]string{{"web", "web-1 state maint; show info"}, {"", "web-1"}, {"web", "a\nb"}} {
		if err := c.SetState(t.Context(), at[0], at[1], Drain); err == nil {
			t.Errorf("%q was sent", at)
		}
	}
	if err := c.SetState(t.Context(), "web", "web-1", "gone"); err == nil {
		t.Error("an unknown state was sent")
	}
}

func TestConcurrentCallsDoNotDisturbEachOther(t *testing.T) {
	c := start(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if stats, err := c.Stat(t.Context()); err != nil || len(stats) != 5 {
				t.Errorf("%d rows, %v", len(stats), err)
			}
		})
	}
	all.Wait()
}

func TestAnErrorSaysWhichSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.sock")
	if _, err := NewClient(path).Info(t.Context()); err == nil || !strings.Contains(err.Error(), path) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAHungHAProxyIsGivenUpWithTheContext(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hung.sock")
	listener, err := net.Listen("unix", path) // it accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := NewClient(path).Stat(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestAServerIsTakenForDownUntilItsChecksFindItFit(t *testing.T) {
	c := start(t)
	eventually(t, func() error { return hasState(t, c, "web", "web-1", "UP") })
	since := func() (d time.Duration) {
		stats, err := c.Stat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stats {
			if s.Backend == "web" && s.Server == "web-1" {
				d = s.Since
			}
		}
		return d
	}
	eventually(t, func() error {
		if since() < 2*time.Second {
			return errors.New("it has not been up for 2 s yet")
		}
		return nil
	})
	if err := c.SetHealth(t.Context(), "web", "web-1", false); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return hasState(t, c, "web", "web-1", "UP") })
	if d := since(); d >= 2*time.Second {
		t.Errorf("it is up since %v: it was not down", d)
	}
	if err := c.SetHealth(t.Context(), "web", "web-9", true); !errors.Is(err, ErrNoServer) {
		t.Errorf("a server that is not there: %v", err)
	}
}

func TestAFrontendRefusesConnectionsForATime(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entry := free.Addr().String()
	free.Close()
	c := startWith(t, "frontend entry\n    bind "+entry+"\n    default_backend web\n")
	accepts := func() bool {
		conn, err := net.Dial("tcp", entry)
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		text, _ := io.ReadAll(conn)
		return err == nil && strings.HasPrefix(string(text), "HTTP/1.")
	}
	for _, on := range []bool{true, false, false, true, true} {
		if err := c.Accept(t.Context(), "entry", on); err != nil {
			t.Error(err)
		}
		if on != accepts() {
			t.Errorf("connections are taken: %v, want %v", !on, on)
		}
	}
	if err := c.Accept(t.Context(), "nobody", false); err == nil {
		t.Error("a frontend that is not there has no error")
	}
}

func TestSessionsAtAServerAreEnded(t *testing.T) {
	c := start(t)
	if err := c.EndSessions(t.Context(), "web", "web-1"); err != nil {
		t.Error(err)
	}
	if err := c.EndSessions(t.Context(), "web", "web-9"); err == nil {
		t.Error("a server that is not there has no error")
	}
	for _, bad := range []string{"", "web-1;quit", "a b"} {
		if err := c.EndSessions(t.Context(), "web", bad); err == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
}
