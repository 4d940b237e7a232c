package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

func TestHostsAreNamedWithAddressAndNamespace(t *testing.T) {
	got, err := parseHosts([]string{"host-1=198.18.7.1@hf-1", "b=198.18.7.2@/var/run/other"})
	want := []plan.Place{
		{Name: "host-1", Address: "198.18.7.1", Netns: "/run/netns/hf-1"},
		{Name: "b", Address: "198.18.7.2", Netns: "/var/run/other"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the hosts are %v (%v), want %v", got, err, want)
	}
	for _, wrong := range []string{"", "host-1", "host-1=198.18.7.1", "host-1=somewhere@hf-1", "=198.18.7.1@hf-1", "host-1=198.18.7.1@"} {
		var usage usageError
		if _, err := parseHosts([]string{wrong}); !errors.As(err, &usage) {
			t.Errorf("--host %q: %v, want a usage error", wrong, err)
		}
	}
}

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
