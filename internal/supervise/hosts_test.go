package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

func TestSeveralHostsAreOneStageAfterTheOther(t *testing.T) {
	node := func(name string, stage int) plan.Process { return plan.Process{Node: name, Stage: stage} }
	all := mergeHosts([]plan.Host{
		{Name: "a", Dirs: []string{"logs", "nodes/x"}, Processes: []plan.Process{node("x-1", 1), node("y-1", 2)}},
		{Name: "b", Dirs: []string{"logs", "nodes/y"}, Processes: []plan.Process{node("x-2", 1), node("y-2", 2)}},
	})
	var order []string
	for _, p := range all.Processes {
		order = append(order, p.Node)
	}
	if want := []string{"x-1", "x-2", "y-1", "y-2"}; !slices.Equal(order, want) {
		t.Errorf("they start as %q, want %q", order, want)
	}
	if want := []string{"logs", "nodes/x", "nodes/y"}; !slices.Equal(all.Dirs, want) {
		t.Errorf("the directories are %q, want %q", all.Dirs, want)
	}
}

func TestAStackOfOneHostDoesNotBecomeOneOfSeveralWhileItRuns(t *testing.T) {
	const file = "entry: {auth: none}\nhosts: {one: {address: 198.18.7.1}, two: {address: 198.18.7.2}}\n"
	s, _, err := stack.Parse("holdfast.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	if _, err := Open(Config{Stack: s, StateDir: state}); !errors.Is(err, ErrSeveralHosts) {
		t.Errorf("it is opened: %v", err)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("a state directory was made")
	}
	_, err = new(Supervisor).target(layout{}, Request{File: file})
	if !errors.As(err, new(*ArgumentError)) || !errors.Is(err, ErrSeveralHosts) {
		t.Errorf("it is applied: %v", err)
	}
	// A stack of several hosts is possible, and the error says how.
	if text := ErrSeveralHosts.Error(); strings.Contains(text, "version") || !strings.Contains(text, "'holdfast up'") {
		t.Errorf("the advice is %q", text)
	}
}

// The nodes of one machine talk without TLS, and none can change to TLS while the others do not.
func TestAStackOfOneHostDoesNotBeginToEncryptWhileItRuns(t *testing.T) {
	const one = "entry: {auth: none}\nhosts: {one: {address: 198.18.7.1}}\n"
	_, err := new(Supervisor).target(layout{}, Request{File: one})
	if !errors.Is(err, ErrPlainSoFar) || !errors.As(err, new(*RefusedError)) {
		t.Errorf("it is applied: %v", err)
	}
	for _, way := range []string{"network: trusted", "'holdfast down'", "Nothing was changed"} {
		if text := ErrPlainSoFar.Error(); !strings.Contains(text, way) {
			t.Errorf("%q does not say %q", text, way)
		}
	}
}

func TestHostsOfTheStackFileArePlannedWhereTheyAre(t *testing.T) {
	s, _, err := stack.Parse("holdfast.yaml", []byte("entry: {auth: none}\nhosts: {one: {address: 198.18.7.1}, two: {address: 198.18.7.2, only: sentinel}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Preview(s, "/", shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Hosts) != 2 || p.Hosts[0].Name != "one" || len(p.Hosts[1].Processes) != 1 || p.Hosts[1].Processes[0].Kind != plan.Sentinel {
		t.Errorf("the plan is %+v", p.Hosts)
	}
}
