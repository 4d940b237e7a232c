package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/supervise"
)

func TestDownIsNotBelievedBeforeItIsSeen(t *testing.T) {
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "nodes"), 0o700); err != nil {
		t.Fatal(err)
	}
	ended := supervise.Status{Nodes: []supervise.NodeStatus{{Name: "redis-1", State: supervise.Down}}}
	running := supervise.Status{Nodes: []supervise.NodeStatus{{Name: "redis-1", State: supervise.Up, PID: 42}}}
	for _, tt := range []struct {
		name  string
		st    supervise.Status
		state string
		purge bool
		want  string // part of the error; empty: no error
	}{
		{"all have ended", ended, state, false, ""},
		{"one runs", running, state, false, "redis-1 still runs (pid 42)"},
		{"the data is gone", ended, t.TempDir(), true, ""},
		{"the data is there", ended, state, true, "still there"},
	} {
		err := checkDown(tt.st, tt.state, tt.purge)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestWhoKeepsAStackFromBeingReadyIsNamed(t *testing.T) {
	got := nodesNotUp(&globals{}, supervise.Status{Nodes: []supervise.NodeStatus{
		{Name: "web-1", State: supervise.Up}, {Name: "redis-2", State: supervise.Starting, Detail: "held back"}, {Name: "web-2", State: supervise.Down},
	}})
	if got != "\n  redis-2 is starting: held back\n  web-2 is down" {
		t.Errorf("laggards = %q", got)
	}
}
