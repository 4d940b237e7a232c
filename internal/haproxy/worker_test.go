package haproxy

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"
)

// After a reload the old worker closes the connections of one frontend, and still answers the
// requests of another one.
func TestAnOldWorkerClosesTheSessionsOfOneFrontend(t *testing.T) {
	answer := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	}))
	defer web.Close()
	store, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	dir, err := os.MkdirTemp("/tmp", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	worker, master, config := filepath.Join(dir, "w.sock"), filepath.Join(dir, "m.sock"), filepath.Join(dir, "cfg")
	// HAProxy needs ports that somebody chooses; unix sockets are certainly free.
	entry, redis := filepath.Join(dir, "e.sock"), filepath.Join(dir, "r.sock")
	text := fmt.Sprintf(`
global
    stats socket %s mode 600 level admin expose-fd listeners
    hard-stop-after 60s
defaults
    timeout connect 1s
    timeout client 60s
    timeout server 60s
frontend entry
    mode http
    bind unix@%s
    default_backend web
frontend redis.entry
    mode tcp
    bind unix@%s
    default_backend redis
backend web
    mode http
    server web-1 %s
backend redis
    mode tcp
    server redis-1 %s
`, worker, entry, redis, web.Listener.Addr(), store.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t), "-W", "-S", master+",mode,600", "-f", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() }()
	c := NewClient(worker)
	var old Info
	eventually(t, func() (err error) { old, err = c.Info(t.Context()); return err })
	eventually(t, func() error { // a master that has not started yet takes no signal
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		info, err := Worker(master, old.PID).Info(ctx)
		if err == nil && info.PID != old.PID {
			err = fmt.Errorf("through the master it is %d, and by itself %d", info.PID, old.PID)
		}
		return err
	})

	client, err := net.Dial("unix", redis)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request, err := net.Dial("unix", entry)
	if err != nil {
		t.Fatal(err)
	}
	defer request.Close()
	if _, err := io.WriteString(request, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // both have reached their server
		stats, err := c.Stat(t.Context())
		for _, s := range stats {
			if s.IsServer() && s.Sessions != 1 {
				err = errors.Join(err, fmt.Errorf("%s has %d sessions", s.Server, s.Sessions))
			}
		}
		return err
	})
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		// A worker that has just handed its listeners over does not reply.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		info, err := c.Info(ctx)
		if err == nil && info.PID == old.PID {
			err = errors.New("the worker is the same")
		}
		return err
	})
	var closed int
	eventually(t, func() (err error) { // the master is away for a moment when it reloads
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		closed, err = Worker(master, old.PID).CloseSessions(ctx, "redis.entry")
		return err
	})
	if closed != 1 {
		t.Errorf("%d sessions are closed, want 1", closed)
	}
	client.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the program's connection is open: %v", err)
	}
	answer <- struct{}{}
	request.SetReadDeadline(time.Now().Add(time.Minute))
	if line, err := bufio.NewReader(request).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Errorf("the request in hand is answered %q, %v", line, err)
	}
}
