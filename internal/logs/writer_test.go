package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/process"
)

// newState makes a state directory.
func newState(t *testing.T) string {
	t.Helper()
	// Not t.TempDir: the path of a unix socket is limited to about 100 bytes.
	state, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	if err := os.Mkdir(Dir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	return state
}

// startWriter runs a log writer until stop, or the test, ends it.
func startWriter(t *testing.T, state string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Write(ctx, state) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the writer: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	await(t, "the writer", func() bool { return tell(state, askPing, time.Second) == nil })
	return stop
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !clock.Within(20*time.Second, 5*time.Millisecond, cond) {
		t.Fatalf("not within 20 s: %s", what)
	}
}

// startNode starts a shell script as a node, as a supervisor would.
func startNode(t *testing.T, state, node, script string) *process.Process {
	t.Helper()
	output, err := OpenPipe(state, node)
	if err != nil {
		t.Fatal(err)
	}
	p, err := process.Start(process.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ(), Output: output})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.SignalGroup(syscall.SIGKILL)
		<-p.Done()
	})
	go HandOver(t.Context(), state, node, output)
	return p
}

// all returns the lines of a node's log.
func all(t *testing.T, state, node string) []string {
	t.Helper()
	r := NewReader(state, node, time.Time{})
	defer r.Close()
	var lines []string
	for {
		e, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return lines
		}
		if !e.Stamped {
			t.Errorf("%q has no time", e.Line)
		}
		lines = append(lines, e.Line)
	}
}

func TestTheLastWordsOfANodeAreThereInTime(t *testing.T) {
	state := newState(t)
	startWriter(t, state)
	for i := range 20 {
		node := fmt.Sprintf("web-%d", i)
		p := startNode(t, state, node, "echo one; echo two >&2; printf 'and no end'; exit 3")
		<-p.Done()
		if got := Tail(state, node, time.Time{}); !slices.Equal(got, []string{"one", "two", "and no end"}) {
			t.Fatalf("tail = %q", got)
		}
	}
}

func TestALineWithoutAnEndIsShownSoon(t *testing.T) {
	state := newState(t)
	startWriter(t, state)
	startNode(t, state, "web-1", "printf 'password: '; exec sleep 1000")
	await(t, "the prompt", func() bool { return slices.Contains(all(t, state, "web-1"), "password: ") })
}

func TestWhatTwoProcessesOfANodeWriteIsStored(t *testing.T) {
	state := newState(t)
	startWriter(t, state)
	p := startNode(t, state, "web-1", "for i in 1 2 3 4 5; do echo parent $i; done & for i in 1 2 3 4 5; do echo child $i; done; wait")
	<-p.Done()
	Sync(state, "web-1")
	got := all(t, state, "web-1")
	slices.Sort(got)
	if want := "child 1,child 2,child 3,child 4,child 5,parent 1,parent 2,parent 3,parent 4,parent 5"; strings.Join(got, ",") != want {
		t.Errorf("lines = %q", got)
	}
}

func TestANodeThatWritesWithoutPauseStaysWithinItsShare(t *testing.T) {
	state := newState(t)
	startWriter(t, state)
	p := startNode(t, state, "web-1", "exec yes 'all work and no play makes a dull log'")
	path := File(state, "web-1")
	await(t, "a rotation of every file", func() bool {
		bytes, files := taken(t, path)
		if bytes > (fileKeep+1)*fileSize {
			t.Fatalf("%d bytes are taken", bytes)
		}
		return files == fileKeep+1
	})
	p.SignalGroup(syscall.SIGKILL)
	<-p.Done()
	if bytes, _ := taken(t, path); bytes > (fileKeep+1)*fileSize {
		t.Errorf("%d bytes are taken", bytes)
	}
}

func TestANodeOutlivesTheWriterAndLosesNothing(t *testing.T) {
	state := newState(t)
	stop := startWriter(t, state)
	for _, name := range []string{"go", "said"} {
		if err := syscall.Mkfifo(state+"/"+name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startNode(t, state, "web-1", `echo before; read -r line < `+state+`/go; echo meanwhile; echo > `+state+`/said; read -r line < `+state+`/go; echo after`)
	await(t, "the first words", func() bool { return slices.Contains(all(t, state, "web-1"), "before") })
	stop()

	os.WriteFile(state+"/go", []byte("\n"), 0)
	os.ReadFile(state + "/said")
	if !process.Alive(p.ID()) {
		t.Fatal("the node died with the writer")
	}
	startWriter(t, state)
	os.WriteFile(state+"/go", []byte("\n"), 0)
	<-p.Done()
	Sync(state, "web-1")
	if got := all(t, state, "web-1"); !slices.Equal(got, []string{"before", "meanwhile", "after"}) {
		t.Errorf("lines = %q", got)
	}
}

func TestThereIsOneWriterOfAStack(t *testing.T) {
	state := newState(t)
	startWriter(t, state)
	if err := Write(t.Context(), state); !errors.Is(err, ErrRuns) {
		t.Errorf("a second one: %v", err)
	}
	if id, ok := Running(state); !ok || id.PID != os.Getpid() {
		t.Errorf("running = %+v, %t", id, ok)
	}
	for _, words := range []string{"sync ../web-1", "open nobody-1", "nonsense"} {
		if err := tell(state, words, time.Second); err == nil {
			t.Errorf("%q is no mistake", words)
		}
	}
	if err := tell(state, askPing, time.Second); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestAWriterThatNobodyNeedsEnds(t *testing.T) {
	state := newState(t)
	long := time.Now().Add(-time.Hour)
	w := &writer{state: state, pumps: map[string]*pump{}, aloneFrom: long}
	if w.needed() {
		t.Error("it is needed by nobody")
	}
	w.clients, w.aloneFrom = 1, long
	if !w.needed() {
		t.Error("a supervisor needs it")
	}
	w.clients, w.aloneFrom = 0, long
	output, err := OpenPipe(state, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	w.scan()
	if !w.needed() {
		t.Error("a node needs it")
	}
	output.Close()
	await(t, "the end of the node", func() bool { w.aloneFrom = long; return !w.needed() })
	w.end()
	os.RemoveAll(state)
	w.aloneFrom = time.Now()
	if w.needed() {
		t.Error("the state directory is gone")
	}
}
