package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// balancerSocket returns a socket that answers as HAProxy does, or not at all.
func balancerSocket(t *testing.T, answer string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-alive-") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = bufio.NewReader(conn).ReadString('\n')
				if answer == "" {
					_, _ = io.Copy(io.Discard, conn)
					time.Sleep(time.Minute)
				}
				fmt.Fprint(conn, answer)
			}()
		}
	}()
	return path
}

func info(stopping int) string {
	return fmt.Sprintf("Name: HAProxy\nVersion: 2.6.12\nPid: 7\nUptime_sec: 1\nCurrConns: 0\nMaxconn: 10\nCumConns: 0\nCumReq: 0\nStopping: %d\n\n", stopping)
}

func TestKeepalivedHearsWhetherABalancerServes(t *testing.T) {
	well, stopping := balancerSocket(t, info(0)), balancerSocket(t, info(1))
	gone := filepath.Join(filepath.Dir(well), "gone")
	for what, c := range map[string]struct {
		sockets []string
		wrong   string
	}{
		"one serves":        {[]string{well}, ""},
		"one of two serves": {[]string{gone, well}, ""},
		"it is stopping":    {[]string{stopping}, "is stopping"},
		"none is there":     {[]string{gone, stopping}, gone},
	} {
		err := balancerAlive(t.Context(), c.sockets)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := balancerAlive(ctx, []string{balancerSocket(t, "")}); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("one that hangs: %v after %v", err, time.Since(began))
	}
}
