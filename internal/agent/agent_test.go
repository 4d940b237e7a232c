package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/machine/machinetest"
)

// cable is the network between a leader and a host: a listener whose connections can be cut, and
// that can be made to accept no new ones.
type cable struct {
	t      *testing.T
	listen net.Listener
	server *Server

	mu    sync.Mutex
	conns []net.Conn
	down  bool
	dials atomic.Int64
}

// newCable serves a Server on the loopback interface.
func newCable(t *testing.T, server *Server) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, listen: l, server: server}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			down := c.down
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			if down {
				conn.Close()
				continue
			}
			serving.Go(func() { _ = server.Serve(conn) }) // the calls show how it ends
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.cut(true)
		server.Close()
		serving.Wait()
	})
	return c
}

// dial connects to the host.
func (c *cable) dial(ctx context.Context) (net.Conn, error) {
	c.dials.Add(1)
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.listen.Addr().String())
}

// cut closes all connections. It accepts new ones unless the host is to stay away.
func (c *cable) cut(stay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = stay
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// newHost makes a state directory like that of a supervisor.
func newHost(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"logs", "nodes"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// connected returns a host that is reached by a cable.
func connected(t *testing.T, term uint64) (*Remote, *cable, *Terms) {
	t.Helper()
	dir := newHost(t)
	local := machine.NewLocal(dir)
	terms := &Terms{}
	c := newCable(t, NewServer(local, "/usr/bin/holdfast", terms))
	r := New("two", dir, term, c.dial)
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), local.Close()); err != nil {
			t.Error(err)
		}
	})
	return r, c, terms
}

func TestAnotherHostIsAMachine(t *testing.T) {
	machinetest.Test(t, func(t *testing.T, dir string) machine.Machine {
		local := machine.NewLocal(dir)
		c := newCable(t, NewServer(local, "/usr/bin/holdfast", &Terms{}))
		t.Cleanup(func() { local.Close() })
		return New("two", dir, 1, c.dial)
	})
}

// sleeper starts a process that runs until it is ended.
func sleeper(t *testing.T, m machine.Machine) machine.Process {
	t.Helper()
	p, err := m.Start(t.Context(), machine.Spec{Node: "web-1", Program: "/bin/sleep", Args: []string{"1000"}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(p.ID().PID, syscall.SIGKILL) })
	return p
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	if !clock.Within(30*time.Second, 10*time.Millisecond, is) {
		t.Fatalf("not within 30 s: %s", what)
	}
}

// While a host is cut off, its processes may run. A process counts as ended only when its host
// reports that.
func TestAProcessOutlivesTheConnection(t *testing.T) {
	r, c, _ := connected(t, 1)
	p := sleeper(t, r)
	c.cut(true)
	if err := r.Write(t.Context(), machine.File{Name: "x", Mode: 0o600}); !errors.Is(err, machine.ErrUnreachable) {
		t.Errorf("a write to a host that is cut off: %v", err)
	}
	if alive, err := r.Alive(t.Context(), p.ID()); alive || !errors.Is(err, machine.ErrUnreachable) {
		t.Errorf("a process of a host that cannot be asked is said to be alive: %t, %v", alive, err)
	}
	if r.Present(t.Context()) {
		t.Error("a host that is cut off is there")
	}
	select {
	case <-p.Done():
		t.Fatal("the process has ended with the connection")
	case <-time.After(3 * askAgain):
	}
	if err := syscall.Kill(p.ID().PID, syscall.SIGKILL); err != nil { // the leader cannot hear of it yet
		t.Fatal(err)
	}
	c.cut(false)
	select {
	case <-p.Done():
		if p.Exit() != "signal: killed" {
			t.Errorf("it ended by %q", p.Exit())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("its end is not heard of when the host is back")
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, machine.ErrGone) {
		t.Errorf("a signal to what has ended: %v", err)
	}
}

// All calls to a host that is away share one attempt to connect.
func TestAHostThatIsAwayIsNotStormed(t *testing.T) {
	r, c, _ := connected(t, 1)
	c.listen.Close()
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			if _, err := r.Read(t.Context(), "x"); !errors.Is(err, machine.ErrUnreachable) {
				t.Errorf("a read from a host that is away: %v", err)
			}
		})
	}
	callers.Wait()
	if n := c.dials.Load(); n > 25 {
		t.Errorf("50 callers at once connected %d times", n)
	}
}

// A host that accepts a connection and sends nothing holds no call longer than its context.
func TestAHostThatHangsKeepsNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := New("two", "/nowhere", 1, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	})
	defer r.Close()
	for what, call := range map[string]func(context.Context) error{
		"a read":       func(ctx context.Context) error { _, err := r.Read(ctx, "x"); return err },
		"a connection": func(ctx context.Context) error { _, err := r.Dial(ctx, "tcp", "127.0.0.1:1"); return err },
		"a start":      func(ctx context.Context) error { _, err := r.Start(ctx, machine.Spec{}); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
}

// A leader that was replaced cannot change anything any more, and its connections are closed.
func TestALeaderThatWasReplacedIsRefused(t *testing.T) {
	old, c, terms := connected(t, 4)
	now := New("two", old.dir, 5, c.dial)
	defer now.Close()

	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); _, _ = io.Copy(conn, conn) }()
		}
	}()

	stream, err := old.Dial(t.Context(), "tcp", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	p := sleeper(t, old)

	if err := now.MakeDir(t.Context(), "nodes/x"); err != nil { // by this call the host hears of term 5
		t.Fatal(err)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("the former leader's connection to a node goes on")
	}

	for what, err := range map[string]error{
		"a write": old.Write(t.Context(), machine.File{Name: "nodes/x/y", Mode: 0o600}),
		"a start": func() error {
			_, err := old.Start(t.Context(), machine.Spec{Node: "x", Program: "/bin/true"})
			return err
		}(),
		"a dial":   func() error { _, err := old.Dial(t.Context(), "tcp", echo.Addr().String()); return err }(),
		"a remove": old.Remove(t.Context(), "nodes"),
	} {
		if !errors.Is(err, ErrDeposed) {
			t.Errorf("%s of the former leader: %v", what, err)
		}
	}

	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	adopted, err := now.Adopt(t.Context(), p.ID())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-adopted.Done():
		t.Error("a signal of the former leader was sent")
	case <-time.After(200 * time.Millisecond):
	}

	terms.Hear(6)
	if err := now.MakeDir(t.Context(), "nodes/z"); !errors.Is(err, ErrDeposed) {
		t.Errorf("after a term that the host heard of by itself: %v", err)
	}
}

// slow is a machine whose Write takes long.
type slow struct {
	machine.Machine
	began, ended chan struct{}
}

func (s *slow) Write(ctx context.Context, _ machine.File) error {
	close(s.began)
	<-ctx.Done()
	time.Sleep(100 * time.Millisecond) // it still has to clean up
	close(s.ended)
	return ctx.Err()
}

// The new leader reads nothing that the former one is still changing.
func TestALaterTermWaitsUntilEarlierCallsHaveEnded(t *testing.T) {
	dir := newHost(t)
	local := machine.NewLocal(dir)
	defer local.Close()
	s := &slow{local, make(chan struct{}), make(chan struct{})}
	c := newCable(t, NewServer(s, "/usr/bin/holdfast", &Terms{}))
	old, now := New("two", dir, 1, c.dial), New("two", dir, 2, c.dial)
	defer old.Close()
	defer now.Close()
	var writing sync.WaitGroup
	writing.Go(func() {
		if err := old.Write(t.Context(), machine.File{Name: "x"}); err == nil {
			t.Error("a write that was interrupted is said to be done")
		}
	})
	<-s.began
	if _, err := now.Glob(t.Context(), "nodes/*"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.ended:
	default:
		t.Error("the new leader was answered while the former one's write was under way")
	}
	writing.Wait()
}

// A call is sent once, whatever happens to the connection: a start must not be repeated.
func TestNoCallIsRepeated(t *testing.T) {
	dir := newHost(t)
	local := machine.NewLocal(dir)
	defer local.Close()
	counted := &counting{Machine: local}
	c := newCable(t, NewServer(counted, "/usr/bin/holdfast", &Terms{}))
	r := New("two", dir, 1, c.dial)
	defer r.Close()
	var calls int
	for range 20 {
		var working sync.WaitGroup
		for range 5 {
			calls++
			working.Go(func() { _ = r.MakeDir(t.Context(), "nodes/a") }) // some fail, because the connection is cut
		}
		c.cut(false)
		working.Wait()
	}
	if n := int(counted.calls.Load()); n > calls {
		t.Errorf("%d calls were carried out of %d", n, calls)
	}
	eventually(t, "the host is asked again", func() bool { return r.MakeDir(t.Context(), "nodes/b") == nil })
}

type counting struct {
	machine.Machine
	calls atomic.Int64
}

func (c *counting) MakeDir(ctx context.Context, name string) error {
	c.calls.Add(1)
	return c.Machine.MakeDir(ctx, name)
}

// A host that was restarted knows from the agreement which leaders there were, and obeys no
// earlier one.
func TestAHostObeysNoTermBeforeTheOneItKnows(t *testing.T) {
	terms := &Terms{Known: func() uint64 { return 7 }}
	if _, _, err := terms.Begin(t.Context(), 6); !errors.Is(err, ErrDeposed) {
		t.Errorf("a call of an earlier term: %v", err)
	}
	_, end, err := terms.Begin(t.Context(), 7)
	if err != nil {
		t.Fatalf("a call of the term that is known: %v", err)
	}
	end()
}
