package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/control"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// older is the supervisor of an older version. It knows no key of this version's stack file until
// this program has taken over.
type older struct {
	control.Stack
	mu      sync.Mutex
	program string
	leaves  bool // ends at once when it is told to hand over
}

// runs returns the digest of the program that it is.
func (o *older) runs() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.program
}

// set makes it another program, which ends at once on a handover or not.
func (o *older) set(program string, leaves bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.program, o.leaves = program, leaves
}

func (o *older) Status() supervise.Status {
	return supervise.Status{Supervisor: os.Getpid(), Program: o.runs(), File: "older", Phase: supervise.PhaseRunning, Ready: true}
}

func (o *older) Preview(_ context.Context, req supervise.Request) (supervise.ChangePlan, error) {
	if req.File != "" && o.runs() == "older" {
		return supervise.ChangePlan{}, &supervise.ReferenceError{Err: errors.New(`unknown key "newer" in timeouts`)}
	}
	return supervise.ChangePlan{}, nil
}

func (o *older) Change(context.Context, supervise.Request, func(supervise.Event)) (supervise.Result, error) {
	return supervise.Result{Done: true}, nil
}

func (o *older) takeOver(program string) error {
	digest, err := supervise.ProgramDigest(program)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.program = digest
	if o.leaves {
		panic(http.ErrAbortHandler) // before the answer is sent
	}
	return nil
}

func TestAnOlderSupervisorNeedNotKnowTheKeysOfThisVersion(t *testing.T) {
	state, err := os.MkdirTemp("", "hf") // short: unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	t.Chdir(state)
	running, err := json.Marshal(map[string]string{"stack": "name: holdfast\n", "base_dir": state})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "running.json"), running, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (code int, out string) {
		var stdout, stderr strings.Builder
		code = Main(append(args, "--state", state), strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
		return code, stdout.String() + stderr.String()
	}
	supervisor := &older{program: "older"}
	serveControl(t, state, control.Handler(supervisor, nil, supervisor.takeOver, nil))

	if code, out := run("status"); code != 0 || strings.Contains(out, "differs") {
		t.Errorf("status: exit code %d, %s", code, out)
	}
	if code, out := run("apply"); code != 2 || !strings.Contains(out, "newer") || !strings.Contains(out, "upgrade") {
		t.Errorf("apply: exit code %d, %s", code, out)
	}
	other := filepath.Join(state, "other.yaml")
	if err := os.WriteFile(other, []byte("name: "+stack.Default().Name+"\nbalancers: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := run("upgrade", "--file", other); code != 1 || !strings.Contains(out, "something else than what runs") {
		t.Errorf("upgrade with another file: exit code %d, %s", code, out)
	}
	for _, leaves := range []bool{true, false} {
		supervisor.set("older", leaves)
		if code, out := run("upgrade"); code != 0 || !strings.Contains(out, "this version is the supervisor now") {
			t.Errorf("upgrade, which leaves at once: %t: exit code %d, %s", leaves, code, out)
		}
	}
}
