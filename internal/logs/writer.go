package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/clock"
	"holdfast/internal/private"
	"holdfast/internal/process"
)

// Requests to the log writer. Each is a line, and is answered by a line.
const (
	askPing = "ping" // answered as long as the writer works
	askOpen = "open" // NODE: the node was started
	askSync = "sync" // NODE: answered when everything that the node has written is stored
	answer  = "ok"
)

const (
	// scanEvery is the interval at which the writer looks for pipes that it was not told of.
	scanEvery = 5 * time.Second
	// alone is after how long the writer ends if it has no supervisor and no node has its pipe
	// open.
	alone = 10 * time.Second
)

// writer is the log writer: a process of its own for each state directory.
type writer struct {
	state string

	mu        sync.Mutex
	pumps     map[string]*pump
	clients   int
	aloneFrom time.Time // when it last had a client or a node
}

// ErrRuns is the error of a second log writer of a stack.
var ErrRuns = errors.New("the log writer of this stack runs already")

// Write runs the log writer of the stack with that state directory. When the context ends, it
// stores what the nodes have written so far, and returns. It also returns when nothing needs it;
// see alone.
func Write(ctx context.Context, state string) error {
	lock, err := takeLock(state)
	if err != nil {
		return err
	}
	defer lock.Close()
	_ = os.Remove(socket(state)) // left by a writer that was killed: this one has the lock
	// bind creates the socket with the rights that the umask leaves. So no other user can connect,
	// even for a moment.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", socket(state))
	unix.Umask(old)
	if err != nil {
		return fmt.Errorf("listen for the supervisor: %w", err)
	}
	defer l.Close()

	w := &writer{state: state, pumps: map[string]*pump{}, aloneFrom: time.Now()}
	// Listen first and look for pipes afterwards: a pipe that the writer is not told of is found.
	go w.accept(l)
	for needed := true; needed; needed = clock.Sleep(ctx, scanEvery) && w.needed() {
		w.scan()
	}
	w.end()
	return nil
}

// takeLock makes this process the only log writer of a stack.
func takeLock(state string) (*os.File, error) {
	f, err := private.Open(lockFile(state), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("lock the logs: %w", err)
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, ErrRuns
	}
	id, err := process.Identify(os.Getpid())
	if err == nil {
		err = writeID(f, id)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f, nil
}

func writeID(f *os.File, id process.ID) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return err
}

// Running returns the identity of the last log writer of a stack; false if there was none.
func Running(state string) (process.ID, bool) {
	var id process.ID
	b, err := os.ReadFile(lockFile(state))
	return id, err == nil && json.Unmarshal(b, &id) == nil && id.PID > 0
}

// scan opens every pipe that a node has open and that is not read yet.
func (w *writer) scan() {
	nodes, err := named(w.state, pipeSuffix)
	if err != nil {
		complain(err)
	}
	for _, node := range nodes {
		if err := w.open(node); err != nil {
			complain(err)
		}
	}
}

// complain writes an error of the writer itself to its standard error output.
func complain(err error) { fmt.Fprintf(os.Stderr, "%s\n", err) }

// open reads a node's pipe, if it is not read yet.
func (w *writer) open(node string) error {
	p, err := w.pump(node)
	if err != nil {
		return err
	}
	return p.open(Pipe(w.state, node))
}

// pump returns a node's pump, and makes one if the node has none.
func (w *writer) pump(node string) (*pump, error) {
	if node != filepath.Base(node) {
		return nil, fmt.Errorf("%q is no name of a node", node)
	}
	if _, err := os.Stat(Pipe(w.state, node)); err != nil {
		return nil, fmt.Errorf("the node has no pipe: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pumps == nil {
		return nil, errors.New("the log writer is ending")
	}
	if w.pumps[node] == nil {
		w.pumps[node] = newPump(File(w.state, node))
	}
	return w.pumps[node], nil
}

// needed reports whether there is still something to write, or a client that may start a node.
func (w *writer) needed() bool {
	if _, err := os.Stat(Dir(w.state)); err != nil {
		return false // the stack's data was removed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	used := w.clients > 0
	for _, p := range w.pumps {
		used = used || p.inUse()
	}
	if used {
		w.aloneFrom = time.Now()
	}
	return time.Since(w.aloneFrom) < alone
}

// end stores what the nodes have written so far.
func (w *writer) end() {
	w.mu.Lock()
	pumps := w.pumps
	w.pumps = nil
	w.mu.Unlock()
	var all sync.WaitGroup
	for _, p := range pumps {
		all.Go(p.end)
	}
	all.Wait()
}

// accept serves clients until the listener is closed.
func (w *writer) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, at worst
			complain(err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go w.serve(conn)
	}
}

func (w *writer) serve(conn net.Conn) {
	defer conn.Close()
	w.count(+1)
	defer w.count(-1)
	in := bufio.NewScanner(conn)
	for in.Scan() {
		says := answer
		if err := w.do(in.Text()); err != nil {
			says = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if _, err := fmt.Fprintln(conn, says); err != nil {
			return
		}
	}
}

func (w *writer) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients += n
	w.aloneFrom = time.Now()
}

// do carries out one request.
func (w *writer) do(words string) error {
	verb, node, _ := strings.Cut(words, " ")
	switch verb {
	case askPing:
		return nil
	case askOpen:
		return w.open(node)
	case askSync:
		if err := w.open(node); err != nil {
			return err
		}
		p, err := w.pump(node)
		if err == nil {
			<-p.ask()
		}
		return err
	}
	return fmt.Errorf("unknown word %q", verb)
}
