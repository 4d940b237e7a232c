// Package control carries an operator's wishes to the supervisor: HTTP on a
// unix socket that only its owner may use. The server runs in the supervisor,
// the client in the commands. What is done is package supervise's affair.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/supervise"
)

// SocketName is the control socket's name in a stack's state directory.
const SocketName = "control.sock"

// MaxSocketPath is the longest path that a unix socket can have on Linux and
// macOS (unix(7), sun_path), in bytes.
const MaxSocketPath = 103

// Stack is what the server steers: a supervisor. Its methods are called
// concurrently.
type Stack interface {
	Status() supervise.Status
	Subscribe() (now supervise.Status, changes <-chan supervise.NodeStatus, cancel func())
	Do(ctx context.Context, node string, action supervise.Action) error
	Switchover(ctx context.Context, to string) (supervise.Switched, error)
	Restore(ctx context.Context) (supervise.Restored, error)
	Preview(ctx context.Context, req supervise.Request) (supervise.ChangePlan, error)
	Change(ctx context.Context, req supervise.Request, tell func(supervise.Event)) (supervise.Result, error)
}

// Server answers on the control socket.
type Server struct {
	stack Stack
	// down is called once when somebody asks for the stack to be taken down.
	down     func(purge bool)
	handOver func(program string) error // see OnUpgrade
	listener net.Listener
	http     *http.Server
}

// Listen opens the control socket in the state directory. A socket that a dead
// supervisor left behind is removed, but only when dialling shows that nobody
// is there, and nothing that is not a socket ever is.
func Listen(stateDir string, stack Stack, down func(purge bool)) (*Server, error) {
	path := filepath.Join(stateDir, SocketName)
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("the control socket's path %s has %d bytes, and a unix socket can have %d; choose a shorter --state", path, len(path), MaxSocketPath)
	}
	if err := RemoveStale(path); err != nil {
		return nil, err
	}
	// The socket must not be open to others even for a moment: bind makes it
	// with the permissions that the umask leaves.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	s := &Server{stack: stack, down: down, listener: l}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/nodes/{node}/{action}", s.act)
	mux.HandleFunc("POST /v1/switchover", s.switchOver)
	mux.HandleFunc("POST /v1/restore", s.restore)
	mux.HandleFunc("POST /v1/change", s.change)
	mux.HandleFunc("POST /v1/upgrade", s.upgrade)
	mux.HandleFunc("POST /v1/down", s.takeDown)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return s, nil
}

// RemoveStale removes a unix socket that nobody listens on any more. Its error
// says that somebody does, or that the path is no socket; then it stays.
func RemoveStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is in the way and is not a socket; remove it", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("somebody already listens on %s", path)
	}
	return os.Remove(path)
}

// Serve answers until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends the server and its connections.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.stack.Status())
}

// Event is one line of the event stream: the whole status first, then each
// change of a node.
type Event struct {
	Status *supervise.Status     `json:"status,omitempty"`
	Node   *supervise.NodeStatus `json:"node,omitempty"`
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	now, changes, cancel := s.stack.Subscribe()
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	if out.Encode(Event{Status: &now}) != nil {
		return
	}
	for {
		if flush.Flush() != nil {
			return
		}
		select {
		case n, open := <-changes:
			if !open || out.Encode(Event{Node: &n}) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	answer(w, struct{}{}, s.stack.Do(r.Context(), r.PathValue("node"), supervise.Action(r.PathValue("action"))))
}

func (s *Server) switchOver(w http.ResponseWriter, r *http.Request) {
	done, err := s.stack.Switchover(r.Context(), r.URL.Query().Get("to"))
	answer(w, done, err)
}

func (s *Server) restore(w http.ResponseWriter, r *http.Request) {
	done, err := s.stack.Restore(r.Context())
	answer(w, done, err)
}

// answer says how what was asked went, and what came of it.
func answer(w http.ResponseWriter, done any, err error) {
	var unknown *supervise.UnknownNodeError
	switch {
	case errors.As(err, &unknown), errors.As(err, new(*supervise.UnknownAppError)):
		reply(w, http.StatusNotFound, problem{err.Error()})
	case errors.As(err, new(*supervise.ReferenceError)), errors.As(err, new(*supervise.ArgumentError)):
		reply(w, http.StatusBadRequest, problem{err.Error()})
	case err != nil:
		reply(w, http.StatusConflict, problem{err.Error()})
	default:
		reply(w, http.StatusOK, done)
	}
}

func (s *Server) takeDown(w http.ResponseWriter, r *http.Request) {
	s.down(r.URL.Query().Get("purge") == "true")
	reply(w, http.StatusAccepted, struct{}{})
}

// problem is the body of an error.
type problem struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client may be gone: nobody to tell
}
