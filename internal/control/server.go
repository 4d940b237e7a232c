// Package control is the API between the commands and the supervisor: HTTP on a
// unix socket that only its owner may use. The server runs in the supervisor
// (server.go), the client in the commands (client.go). The other files have both
// sides of one subject each: changes, logs, restores, upgrades, and what drills do
// on other hosts (process.go, cut.go). The requests of hosts.go are served by package
// host, and all actions are carried out by package supervise.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/host"
	"holdfast/internal/supervise"
)

// SocketName is the control socket's name in a stack's state directory.
const SocketName = "control.sock"

// MaxSocketPath is the longest path that a unix socket can have on Linux and
// macOS (unix(7), sun_path), in bytes.
const MaxSocketPath = 103

// Stack is the part of a supervisor that the API uses. Its methods must be safe for
// concurrent use.
type Stack interface {
	Status() supervise.Status
	Subscribe() (now supervise.Status, changes <-chan supervise.NodeStatus, cancel func())
	Do(ctx context.Context, node string, action supervise.Action) error
	Switchover(ctx context.Context, to string) (supervise.Switched, error)
	RestorePlace(ctx context.Context) (supervise.RestorePlace, error)
	Restore(ctx context.Context, host, id string) (supervise.Restored, error)
	Rest(ctx context.Context, host string, anyway bool) error
	NoteBackup(b supervise.BackupState) error
	Preview(ctx context.Context, req supervise.Request) (supervise.ChangePlan, error)
	Change(ctx context.Context, req supervise.Request, tell func(supervise.Event)) (supervise.Result, error)
}

// api has the handlers of the API.
type api struct {
	stack     Stack
	down      func(purge bool) error
	initFirst func(h InitRequest) error
}

// InitRequest describes the host that a machine becomes when its stack, until then on this
// machine alone, becomes one of several hosts.
type InitRequest struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	// Others are the other hosts that are to join.
	Others []host.Planned `json:"others"`
}

// Handler returns the handler of the control API of a stack. Down takes the stack down;
// its error tells why it does not. HandOver replaces the supervisor by another program,
// and initFirst makes the machine one of several hosts. Both return at once, with an error if
// that is not possible, and both may be nil if it never is.
func Handler(stack Stack, down func(purge bool) error, handOver func(program string) error, initFirst func(h InitRequest) error) http.Handler {
	a := &api{stack, down, initFirst}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", a.status)
	mux.HandleFunc("GET /v1/events", a.events)
	mux.HandleFunc("POST /v1/nodes/{node}/{action}", a.act)
	mux.HandleFunc("POST /v1/switchover", a.switchOver)
	mux.HandleFunc("GET /v1/restore", a.restorePlace)
	mux.HandleFunc("POST /v1/restore", a.restore)
	mux.HandleFunc("POST /v1/rest", a.rest)
	mux.HandleFunc("POST /v1/backup", a.noteBackup)
	mux.HandleFunc("POST /v1/change", a.change)
	mux.Handle("POST "+UpgradePath, UpgradeHandler(handOver))
	mux.HandleFunc("POST /v1/found", a.initHosts)
	mux.HandleFunc("POST /v1/down", a.takeDown)
	return mux
}

// Unable returns a handler that answers every request with why there is no supervisor. The
// client gets a *WaitsError as such, and other errors as a *BusyError.
func Unable(why error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusServiceUnavailable, errorBody{Error: why.Error(), Waits: errors.As(why, new(*WaitsError))})
	})
}

// WaitsError is the error while a stack waits to begin until more of its hosts are there.
type WaitsError struct{ Why string }

func (e *WaitsError) Error() string { return e.Why }

// Server is the server on the control socket.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen opens the control socket in a state directory, for a handler. It removes a socket
// that a dead supervisor has left, but only if nobody accepts a connection on it. It never
// removes anything that is not a socket.
func Listen(stateDir string, handler http.Handler) (*Server, error) {
	path := filepath.Join(stateDir, SocketName)
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("the control socket's path %s has %d bytes, and a unix socket can have %d; choose a shorter --state", path, len(path), MaxSocketPath)
	}
	if err := RemoveStale(path); err != nil {
		return nil, err
	}
	// The umask makes sure that bind makes the socket with mode 0600. It must not be open to
	// others even for a moment.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return &Server{l, &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}}, nil
}

// Start is Listen and Serve. stop ends the server and waits until it has ended.
func Start(stateDir string, handler http.Handler) (stop func() error, err error) {
	server, err := Listen(stateDir, handler)
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	return func() error { return errors.Join(server.Close(), <-served) }, nil
}

// RemoveStale removes a unix socket that nobody listens on any more. It returns an error,
// and removes nothing, if somebody does, or if the path is not a socket.
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

// Serve serves the handler until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close closes the server and its connections.
func (s *Server) Close() error { return s.http.Close() }

func (a *api) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.stack.Status())
}

// Event is one line of the event stream: first the whole status, then each change of a
// node.
type Event struct {
	Status *supervise.Status     `json:"status,omitempty"`
	Node   *supervise.NodeStatus `json:"node,omitempty"`
}

func (a *api) events(w http.ResponseWriter, r *http.Request) {
	now, changes, cancel := a.stack.Subscribe()
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

func (a *api) act(w http.ResponseWriter, r *http.Request) {
	writeResult(w, struct{}{}, a.stack.Do(r.Context(), r.PathValue("node"), supervise.Action(r.PathValue("action"))))
}

func (a *api) switchOver(w http.ResponseWriter, r *http.Request) {
	done, err := a.stack.Switchover(r.Context(), r.URL.Query().Get("to"))
	writeResult(w, done, err)
}

func (a *api) rest(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	writeResult(w, struct{}{}, a.stack.Rest(r.Context(), q.Get("host"), q.Get("anyway") == "true"))
}

func (a *api) noteBackup(w http.ResponseWriter, r *http.Request) {
	var b supervise.BackupState
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&b); err != nil {
		writeJSON(w, http.StatusBadRequest, errorBody{Error: "the request is no JSON of a backup: " + err.Error()})
		return
	}
	writeResult(w, struct{}{}, a.stack.NoteBackup(b))
}

// writeResult writes the result of a request, or its error with the status for its kind.
func writeResult(w http.ResponseWriter, done any, err error) {
	var unknown *supervise.UnknownNodeError
	switch {
	case errors.As(err, &unknown), errors.As(err, new(*supervise.UnknownAppError)):
		writeJSON(w, http.StatusNotFound, errorBody{Error: err.Error()})
	case errors.As(err, new(*BusyError)), errors.As(err, new(*supervise.StartingError)):
		writeJSON(w, http.StatusServiceUnavailable, errorBody{Error: err.Error(), Later: true})
	case errors.As(err, new(*supervise.RestoreCutError)):
		writeJSON(w, http.StatusServiceUnavailable, errorBody{Error: err.Error()})
	case errors.As(err, new(*supervise.UnknownHostError)):
		writeJSON(w, http.StatusBadRequest, errorBody{Error: err.Error()})
	case errors.As(err, new(*supervise.ReferenceError)), errors.As(err, new(*supervise.ArgumentError)):
		writeJSON(w, http.StatusBadRequest, errorBody{Error: err.Error()})
	case err != nil:
		writeJSON(w, http.StatusConflict, errorBody{Error: err.Error()})
	default:
		writeJSON(w, http.StatusOK, done)
	}
}

func (a *api) takeDown(w http.ResponseWriter, r *http.Request) {
	writeResult(w, struct{}{}, a.down(r.URL.Query().Get("purge") == "true"))
}

func (a *api) initHosts(w http.ResponseWriter, r *http.Request) {
	var h InitRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&h)
	switch {
	case err != nil:
		writeJSON(w, http.StatusBadRequest, errorBody{Error: err.Error()})
	case a.initFirst == nil:
		writeJSON(w, http.StatusConflict, errorBody{Error: "this machine is one of several hosts already"})
	default:
		writeResult(w, struct{}{}, a.initFirst(h))
	}
}

// errorBody is the body of an error answer.
type errorBody struct {
	Error string `json:"error"`
	Waits bool   `json:"waits,omitempty"` // see WaitsError
	Later bool   `json:"later,omitempty"` // see BusyError
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client may be gone
}
