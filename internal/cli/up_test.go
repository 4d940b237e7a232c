package cli

import (
	"strings"
	"testing"

	"holdfast/internal/supervise"
)

func TestStatusTellsHostsWhenThereAreSeveral(t *testing.T) {
	st := supervise.Status{Nodes: []supervise.NodeStatus{
		{Name: "web-1", Host: "host-1", State: supervise.Up}, {Name: "web-2", Host: "host-1", State: supervise.Up},
	}}
	shown := func() string {
		var text strings.Builder
		table(&text, &globals{}, st, 0)
		return text.String()
	}
	if text := shown(); strings.Contains(text, "HOST") || strings.Contains(text, "host-1") {
		t.Errorf("one host is told of:\n%s", text)
	}
	st.Nodes[1].Host = "host-2"
	if text := shown(); !strings.Contains(text, "HOST") || !strings.Contains(text, "host-1") || !strings.Contains(text, "host-2") {
		t.Errorf("two hosts are not told of:\n%s", text)
	}
}
