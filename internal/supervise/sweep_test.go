package supervise

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/renameio/v2"
)

func TestWhatAKilledSupervisorWasWritingIsRemoved(t *testing.T) {
	t.Parallel()
	d := dirAt(t.TempDir())
	if err := os.MkdirAll(d.path("nodes", "balancer-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	// This is what a kill in the middle of writeFile and of checkConfig leaves.
	for _, name := range []string{stateFile, "nodes/balancer-1/haproxy.cfg"} {
		f, err := renameio.TempFile(filepath.Dir(d.path(name)), d.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
	checked, err := os.CreateTemp(d.root, checkedConfigs)
	if err != nil {
		t.Fatal(err)
	}
	checked.Close()
	kept := []string{stateFile, "nodes/balancer-1/haproxy.cfg", "nodes/balancer-1/.mine", "." + BackupFile + "12", "notes-1"}
	for _, name := range kept {
		if err := os.WriteFile(d.path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	hostsAt(d.root).here.sweep(t.Context())
	for _, name := range kept {
		if _, err := os.Stat(d.path(name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	root, _ := os.ReadDir(d.root)
	node, _ := os.ReadDir(d.path("nodes", "balancer-1"))
	if len(root)+len(node) != len(kept)+1 {
		t.Errorf("left are %v and %v", root, node)
	}
}

// The operator asks twice while a change removes a node.
func TestANodeThatHasJustGoneIsStoppedInAHurry(t *testing.T) {
	t.Parallel()
	s, n := oneNode(t, "true")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.stopNode(stopContexts{t.Context(), ctx}, "web-2"); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
	close(n.gone) // and nothing looks after it
	if err := s.stopNode(stopContexts{t.Context(), ctx}, "web-1"); err != nil && !errors.As(err, new(*UnknownNodeError)) {
		t.Errorf("one that goes: %v", err)
	}
}
