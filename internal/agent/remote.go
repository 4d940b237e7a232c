package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"holdfast/internal/machine"
)

// Remote is the machine of another host. While the host cannot be reached, every call tries to
// connect again, except for a moment (silentFor) after an attempt timed out. A call waits until
// its context ends, or 10 s if the context has no deadline. It is safe for concurrent use.
type Remote struct {
	host string // its name
	dir  string
	term uint64
	dial func(ctx context.Context) (net.Conn, error)
	http *http.Client

	// mu guards the fields below. Session is the connection, or nil if there is none yet.
	// Joining is closed when the attempt to connect that is under way has ended; it is nil
	// if none is.
	mu      sync.Mutex
	session *yamux.Session
	joining chan struct{}
	failed  error // the error of the last attempt
	// silent is until when no new attempt is made, because the last one timed out.
	silent time.Time

	// tasks are the goroutines in the background, such as those that watch processes; end
	// ends them.
	tasks sync.WaitGroup
	life  context.Context
	end   context.CancelFunc
}

var _ machine.Machine = (*Remote)(nil)

// New returns the machine of a host. Dir is the absolute path of the host's state directory,
// and dial connects to its Server. All calls are made under this term.
func New(host, dir string, term uint64, dial func(ctx context.Context) (net.Conn, error)) *Remote {
	r := &Remote{host: host, dir: dir, term: term, dial: dial}
	r.life, r.end = context.WithCancel(context.Background())
	r.http = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return r.open(ctx) },
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
	return r
}

// Close implements machine.Machine.
func (r *Remote) Close() error {
	r.end()
	r.mu.Lock()
	if r.session != nil {
		_ = r.session.Close() // it ends in any case
	}
	r.mu.Unlock()
	r.tasks.Wait()
	r.http.CloseIdleConnections()
	return nil
}

// open opens a stream to the host. It connects first if there is no connection.
func (r *Remote) open(ctx context.Context) (net.Conn, error) {
	session, err := r.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%w)", r.host, machine.ErrUnreachable, err)
	}
	stream, err := session.OpenStream()
	if err != nil {
		_ = session.Close() // the next call makes another one
		return nil, fmt.Errorf("%s: %w (%w)", r.host, machine.ErrUnreachable, err)
	}
	return stream, nil
}

// connect returns the connection to the host. All callers share one attempt to connect.
func (r *Remote) connect(ctx context.Context) (*yamux.Session, error) {
	for {
		r.mu.Lock()
		switch {
		case r.life.Err() != nil:
			r.mu.Unlock()
			return nil, r.life.Err()
		case r.session != nil && !r.session.IsClosed():
			defer r.mu.Unlock()
			return r.session, nil
		case r.joining == nil && time.Now().Before(r.silent):
			defer r.mu.Unlock()
			return nil, r.failed
		}

		if r.joining == nil {
			r.joining, r.failed = make(chan struct{}), nil
			r.tasks.Go(r.connectOnce)
		}

		joined := r.joining
		r.mu.Unlock()

		select {
		case <-joined:
		case <-ctx.Done():
			return nil, ctx.Err()
		}

		r.mu.Lock()
		err := r.failed
		r.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// connectOnce makes the connection for connect.
func (r *Remote) connectOnce() {
	ctx, cancel := context.WithTimeout(r.life, connectLimit)
	defer cancel()
	var session *yamux.Session
	conn, err := r.dial(ctx)
	if err == nil {
		if session, err = yamux.Client(conn, multiplexing()); err != nil {
			_ = conn.Close() // the first error matters more
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if session != nil && r.life.Err() != nil { // Close was called meanwhile
		_ = session.Close()
	}
	r.session, r.failed = session, err
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		r.silent = time.Now().Add(silentFor)
	}
	close(r.joining)
	r.joining = nil
}

// request returns the HTTP request of a call.
func (r *Remote) request(ctx context.Context, method string, in any) (*http.Request, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.host+prefix+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // net/http must not repeat a call, such as the start of a process
	req.Header.Set(termHeader, strconv.FormatUint(r.term, 10))
	return req, nil
}

// call makes a call and returns its result.
func call[Out any](ctx context.Context, r *Remote, method string, in any) (out Out, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	req, err := r.request(ctx, method, in)
	if err != nil {
		return out, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return out, r.unanswered(ctx, err)
	}
	defer resp.Body.Close()
	return readReply[Out](ctx, r, resp)
}

// readReply reads the answer to a call.
func readReply[Out any](ctx context.Context, r *Remote, resp *http.Response) (out Out, err error) {
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("%s answers %s: it may be of another version of Holdfast", r.host, resp.Status)
	}
	var answered reply
	if err := json.NewDecoder(io.LimitReader(resp.Body, 2*maxBody)).Decode(&answered); err != nil {
		return out, r.unanswered(ctx, err)
	}
	if answered.Error != nil {
		return out, answered.Error.err()
	}
	return out, json.Unmarshal(answered.Out, &out)
}

// unanswered returns the error of a call that got no answer.
func (r *Remote) unanswered(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, machine.ErrUnreachable):
		return err
	}
	return fmt.Errorf("%s: %w (%w)", r.host, machine.ErrUnreachable, err)
}

// Path implements machine.Files.
func (r *Remote) Path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

// do makes a call that has no result.
func (r *Remote) do(ctx context.Context, method string, in any) error {
	_, err := call[nothing](ctx, r, method, in)
	return err
}

// Write implements machine.Files.
func (r *Remote) Write(ctx context.Context, f machine.File) error { return r.do(ctx, "write", f) }

// Read implements machine.Files.
func (r *Remote) Read(ctx context.Context, name string) ([]byte, error) {
	return call[[]byte](ctx, r, "read", named{name})
}

// MakeDir implements machine.Files.
func (r *Remote) MakeDir(ctx context.Context, name string) error {
	return r.do(ctx, "make-dir", named{name})
}

// Stat implements machine.Files.
func (r *Remote) Stat(ctx context.Context, name string) (machine.Info, error) {
	return call[machine.Info](ctx, r, "stat", named{name})
}

// Remove implements machine.Files.
func (r *Remote) Remove(ctx context.Context, name string) error {
	return r.do(ctx, "remove", named{name})
}

// Rename implements machine.Files.
func (r *Remote) Rename(ctx context.Context, from, to string) error {
	return r.do(ctx, "rename", renamed{from, to})
}

// Glob implements machine.Files.
func (r *Remote) Glob(ctx context.Context, pattern string) ([]string, error) {
	return call[[]string](ctx, r, "glob", named{pattern})
}

// LookOutside implements machine.Files.
func (r *Remote) LookOutside(ctx context.Context, path, known string, endings []string) (machine.OutsideFiles, error) {
	return call[machine.OutsideFiles](ctx, r, "look-outside", outside{path, known, endings})
}

// Alive implements machine.Processes.
func (r *Remote) Alive(ctx context.Context, id machine.ID) (bool, error) {
	return call[bool](ctx, r, "alive", id)
}

// Find implements machine.Processes.
func (r *Remote) Find(ctx context.Context, t machine.Trace) ([]machine.ID, error) {
	return call[[]machine.ID](ctx, r, "find", t)
}

// Children implements machine.Processes.
func (r *Remote) Children(ctx context.Context, pid int) []int {
	children, _ := call[[]int](ctx, r, "children", pid)
	return children
}

// LookPath implements machine.Processes.
func (r *Remote) LookPath(ctx context.Context, name string) (string, error) {
	return call[string](ctx, r, "look-path", named{name})
}

// Digest implements machine.Processes.
func (r *Remote) Digest(ctx context.Context, path string) (string, error) {
	return call[string](ctx, r, "digest", named{path})
}

// Run implements machine.Processes.
func (r *Remote) Run(ctx context.Context, path string, args ...string) (machine.Output, error) {
	return call[machine.Output](ctx, r, "run", program{path, args})
}

// Free implements machine.Network.
func (r *Remote) Free(ctx context.Context, at string) error {
	return r.do(ctx, "free", address{Address: at})
}

// Holder implements machine.Network.
func (r *Remote) Holder(ctx context.Context, port int) string {
	who, _ := call[string](ctx, r, "holder", port)
	return who
}

// Present implements machine.Network.
func (r *Remote) Present(ctx context.Context) bool {
	there, _ := call[bool](ctx, r, "present", nothing{})
	return there
}

// Facts implements machine.Machine.
func (r *Remote) Facts(ctx context.Context) (machine.Facts, error) {
	facts, err := call[machine.Facts](ctx, r, "facts", nothing{})
	facts.Across = true
	return facts, err
}

// Tail implements machine.Machine.
func (r *Remote) Tail(ctx context.Context, node string, since time.Time) []string {
	lines, _ := call[[]string](ctx, r, "tail", tail{node, since})
	return lines
}
