package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/internal/supervise"
)

// stack stands in for a supervisor. These tests are about what passes over the socket; the
// supervisor itself is tested end to end.
type stack struct {
	changes chan supervise.NodeStatus
	did     []string
	err     error
}

func (s *stack) Status() supervise.Status { return supervise.Status{Stack: "s", Supervisor: 42} }

func (s *stack) Subscribe() (supervise.Status, <-chan supervise.NodeStatus, func()) {
	return s.Status(), s.changes, func() {}
}

func (s *stack) Do(_ context.Context, node string, action supervise.Action) error {
	s.did = append(s.did, string(action)+" "+node)
	return s.err
}

func (s *stack) RestorePlace(context.Context) (supervise.RestorePlace, error) {
	return supervise.RestorePlace{Host: "two", Copies: 2}, nil
}

func (s *stack) Restore(context.Context, string, string) (supervise.Restored, error) {
	s.did = append(s.did, "restore")
	return supervise.Restored{Node: "redis-2"}, nil
}

func (s *stack) Rest(_ context.Context, host string, anyway bool) error {
	s.did = append(s.did, fmt.Sprintf("rest %s %t", host, anyway))
	return s.err
}

func (s *stack) NoteBackup(b supervise.BackupState) error {
	s.did = append(s.did, "backup "+b.Last.Where)
	return s.err
}

func (s *stack) Switchover(_ context.Context, to string) (supervise.Switched, error) {
	s.did = append(s.did, "switchover "+to)
	return supervise.Switched{From: "redis-1", To: to, Waited: 200}, s.err
}

func (s *stack) Preview(_ context.Context, req supervise.Request) (supervise.ChangePlan, error) {
	return supervise.ChangePlan{Generation: 7, Refused: []string{req.Kind}}, s.err
}

func (s *stack) Change(_ context.Context, req supervise.Request, tell func(supervise.Event)) (supervise.Result, error) {
	if s.err != nil {
		return supervise.Result{}, s.err
	}
	tell(supervise.Event{Step: 1, Of: 1, Node: req.Force[0], What: "done"})
	return supervise.Result{ID: 8, Kind: req.Kind, Done: true}, nil
}

func TestAChangeTellsItsEventsAndThenItsResult(t *testing.T) {
	s := &stack{}
	c := NewClient(serve(t, s, nil))
	req := supervise.Request{Kind: "restart", Force: []string{"web-1"}}
	if p, err := c.Preview(t.Context(), req); err != nil || p.Generation != 7 || p.Refused[0] != "restart" {
		t.Errorf("%+v, %v", p, err)
	}
	var told []string
	r, err := c.Change(t.Context(), req, func(e supervise.Event) { told = append(told, e.Node+" "+e.What) })
	if err != nil || !r.Done || r.ID != 8 || strings.Join(told, ",") != "web-1 done" {
		t.Errorf("%+v, %v, told %v", r, err, told)
	}
	s.err = errors.New("the sea is rough")
	if _, err := c.Change(t.Context(), req, nil); err == nil || err.Error() != "the sea is rough" {
		t.Errorf("err = %v", err)
	}
}

func serve(t *testing.T, s Stack, down func(bool) error) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short: unix socket
	if err != nil {
		t.Fatal(err)
	}
	server, err := Listen(dir, Handler(s, down, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return dir
}

func TestTheSocketIsForItsOwnerAlone(t *testing.T) {
	dir := serve(t, &stack{}, nil)
	info, err := os.Stat(filepath.Join(dir, SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v", info.Mode(), err)
	}
}

func TestCommandsReachTheStackAndItsErrorsComeBack(t *testing.T) {
	s := &stack{}
	purged := make(chan bool, 1)
	c := NewClient(serve(t, s, func(purge bool) error { purged <- purge; return nil }))
	ctx := t.Context()
	if st, err := c.Status(ctx); err != nil || st.Stack != "s" || st.Supervisor != 42 {
		t.Errorf("status = %+v, %v", st, err)
	}
	if err := c.Do(ctx, "we/b-1", supervise.ActKill); err != nil || strings.Join(s.did, ",") != "kill we/b-1" {
		t.Errorf("did %v, %v", s.did, err)
	}
	if done, err := c.Switchover(ctx, "redis-3"); err != nil || done.To != "redis-3" || done.Waited != 200 || s.did[1] != "switchover redis-3" {
		t.Errorf("switchover = %+v, %v", done, err)
	}
	if done, err := c.Restore(ctx, "two", "id"); err != nil || done.Node != "redis-2" {
		t.Errorf("restore: %+v, %v", done, err)
	}
	if err := c.NoteBackup(ctx, supervise.BackupState{Last: &supervise.BackupRecord{Where: "/b.tar"}}); err != nil || s.did[len(s.did)-1] != "backup /b.tar" {
		t.Errorf("backup: %v, did %v", err, s.did)
	}
	s.err = errors.New("the sea is rough")
	if err := c.Do(ctx, "web-1", supervise.ActStop); err == nil || err.Error() != "the sea is rough" {
		t.Errorf("err = %v", err)
	}
	s.err = &supervise.UnknownNodeError{Node: "x", Nodes: []string{"web-1"}}
	var unknown *UnknownNodeError
	if err := c.Do(ctx, "x", supervise.ActStop); !errors.As(err, &unknown) {
		t.Errorf("err = %v", err)
	}
	s.err = &BusyError{Why: "another one has to lead first"}
	if err := c.Rest(ctx, "two", true); !errors.As(err, new(*BusyError)) || err.Error() != s.err.Error() || s.did[len(s.did)-1] != "rest two true" {
		t.Errorf("rest: %v, did %v", err, s.did)
	}
	if err := c.Down(ctx, true); err != nil || !<-purged {
		t.Errorf("down: %v", err)
	}
}

func TestEventsAreTheStatusAndThenTheChanges(t *testing.T) {
	s := &stack{changes: make(chan supervise.NodeStatus, 2)}
	c := NewClient(serve(t, s, nil))
	s.changes <- supervise.NodeStatus{Name: "web-1", State: supervise.Up}
	close(s.changes)
	var got []string
	for e, err := range c.Events(t.Context()) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Status != nil:
			got = append(got, "status "+e.Status.Stack)
		default:
			got = append(got, e.Node.Name+" "+string(e.Node.State))
		}
	}
	if strings.Join(got, ", ") != "status s, web-1 up" {
		t.Errorf("events = %v", got)
	}
}

func TestWithoutASupervisorTheClientSaysSo(t *testing.T) {
	c := NewClient(t.TempDir())
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoSupervisor) {
		t.Errorf("err = %v", err)
	}
}

func TestAStaleSocketIsReplacedAndNothingElseIs(t *testing.T) {
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, SocketName)

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir, Handler(&stack{}, nil, nil, nil)); err == nil || !strings.Contains(err.Error(), "already listens") {
		t.Errorf("with somebody there: %v", err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // stale now
	s, err := Listen(dir, Handler(&stack{}, nil, nil, nil))
	if err != nil {
		t.Fatalf("with a stale socket: %v", err)
	}
	s.listener.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir, Handler(&stack{}, nil, nil, nil)); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("with a file in the way: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestAPathTooLongForASocketIsRefused(t *testing.T) {
	_, err := Listen("/tmp/"+strings.Repeat("x", 100), Handler(&stack{}, nil, nil, nil))
	if err == nil || !strings.Contains(err.Error(), "--state") {
		t.Errorf("err = %v", err)
	}
}

// busyStack is a supervisor that is starting for a while.
type busyStack struct {
	stack
	left atomic.Int32 // requests until it is ready
}

func (s *busyStack) Change(ctx context.Context, req supervise.Request, tell func(supervise.Event)) (supervise.Result, error) {
	if s.left.Add(-1) >= 0 {
		return supervise.Result{}, &supervise.StartingError{}
	}
	return s.stack.Change(ctx, req, tell)
}

func TestAPatientClientWaitsForASupervisorThatBegins(t *testing.T) {
	s := &busyStack{}
	c := NewClient(serve(t, s, nil))
	req := supervise.Request{Kind: "restart", Force: []string{"web-1"}}
	s.left.Store(1)
	busy := new(BusyError)
	if _, err := c.Change(t.Context(), req, nil); !errors.As(err, &busy) || !busy.Later {
		t.Errorf("an impatient one: %v", err)
	}
	s.left.Store(8) // more than a second
	var told []string
	patient := c.RetryWhileBusy(func(why string) { told = append(told, why) })
	if r, err := patient.Change(t.Context(), req, func(supervise.Event) {}); err != nil || !r.Done {
		t.Errorf("a patient one: %+v, %v", r, err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "being started") {
		t.Errorf("told %q", told)
	}
	s.left.Store(1 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := patient.Change(ctx, req, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted one: %v", err)
	}
}

// A request that may have been carried out is not repeated.
func TestAPatientClientRepeatsNothingThatMayHaveBeenDone(t *testing.T) {
	asked := 0
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server, err := Listen(dir, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		writeJSON(w, http.StatusServiceUnavailable, errorBody{Error: "nobody knows"})
	}))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	c := NewClient(dir).RetryWhileBusy(func(string) { t.Error("it waits") })
	if _, err := c.Switchover(t.Context(), ""); !errors.As(err, new(*BusyError)) || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	server.Close()
	<-done
}
