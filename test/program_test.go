package test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// environment returns the environment of a node's process.
func (s *instance) environment(node string) map[string]string {
	s.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.node(node).PID))
	if err != nil {
		s.t.Fatal(err)
	}
	env := map[string]string{}
	for variable := range strings.SplitSeq(string(raw), "\x00") {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return env
}

// withProgram returns a stack with a program, shop, that may use Redis.
func withProgram(t *testing.T) *instance {
	t.Helper()
	s := newInstance(t, minimal(t)+fmt.Sprintf(`apps:
  shop:
    command: [sh, -c, 'exec %s files --dir . --listen 127.0.0.1:$PORT']
    nodes: 1
    health: {path: /holdfast.yaml}
`, binary))
	s.must("up", "-d")
	s.awaitHealthy()
	return s
}

// writer is a program whose client library does not retry. After an error it opens a new connection
// for the next command.
type writer struct {
	at *url.URL

	conn    net.Conn
	replies *bufio.Reader

	written, ended int
	refused        []string // errors from Redis, and refused connections
}

var errRefused = errors.New("refused")

func (w *writer) run(stop <-chan struct{}, name string) {
	defer func() {
		if w.conn != nil {
			w.conn.Close()
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		err := w.do(fmt.Sprintf("SET %s %d", name, n))
		switch {
		case err == nil:
			w.written++
		case errors.Is(err, errRefused):
			w.refused = append(w.refused, time.Now().UTC().Format("05.000 ")+err.Error())
		default:
			w.ended++
			w.conn.Close()
			w.conn = nil
		}
	}
}

// do sends a command, on a new connection if there is none.
func (w *writer) do(command string) error {
	if w.conn == nil {
		conn, err := net.Dial("tcp", w.at.Host)
		if err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		w.conn, w.replies = conn, bufio.NewReader(conn)
		password, _ := w.at.User.Password()
		if err := w.send("AUTH " + w.at.User.Username() + " " + password); err != nil {
			return err
		}
	}
	return w.send(command)
}

func (w *writer) send(command string) error {
	_ = w.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintf(w.conn, "%s\r\n", command); err != nil {
		return err
	}
	reply, err := w.replies.ReadString('\n')
	if err == nil && strings.HasPrefix(reply, "-") {
		err = fmt.Errorf("%w: %s", errRefused, strings.TrimSpace(reply))
	}
	return err
}

// Programs that know only one address, and whose clients do not retry, lose no more than the
// connections that they had.
func TestAProgramIsNotRefusedWhenTheMasterChanges(t *testing.T) {
	beside(t, oneStack)
	s := withProgram(t)
	at, err := url.Parse(s.environment("shop-1")["REDIS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	// First the master works, and then it is dead.
	for _, change := range []func(){
		func() { s.must("switchover") },
		func() {
			old := s.master()
			s.must("kill", old)
			s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != old })
			s.awaitHealthy()
		},
	} {
		writers := make([]*writer, 4)
		stop := make(chan struct{})
		var all sync.WaitGroup
		for i := range writers {
			writers[i] = &writer{at: at}
			all.Go(func() { writers[i].run(stop, fmt.Sprintf("w%d", i)) })
		}
		time.Sleep(500 * time.Millisecond) // some writes before the change
		change()
		time.Sleep(500 * time.Millisecond) // and some after it
		close(stop)
		all.Wait()
		for i, w := range writers {
			t.Logf("%d written, %d connections ended", w.written, w.ended)
			if w.written < 20 {
				t.Errorf("writer %d wrote %d times: that proves nothing", i, w.written)
			}
			if w.ended > 1 || len(w.refused) > 0 {
				t.Errorf("writer %d: %d connections ended, refused %q", i, w.ended, w.refused[:min(len(w.refused), 5)])
			}
		}
	}
}
