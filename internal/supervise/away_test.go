package supervise

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/stack"
)

func TestTheStackIsChangedWhileAHostIsAway(t *testing.T) {
	t.Parallel()
	cfg, two := besideFaultyMachine(t, `
name: partly
entry: {listen: "0.0.0.0:%s", auth: none}
apps: {web: {command: [%q], nodes: 2, env: {%s: "1"}}}
redis: {enabled: false}
rollout: {settle: 0s}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(ctx, nil); err != nil {
			t.Error(err)
		}
	}()
	known := func(balancer, node string) bool {
		rows, err := s.balancer(*s.node(balancer).spec()).Stat(ctx)
		return err == nil && slices.ContainsFunc(rows, func(r haproxy.Stat) bool { return r.Server == node })
	}

	two.away.Store(true)
	two.full.Store(true) // no file can be written there
	r, err := s.Change(ctx, Request{Kind: "scale", Overrides: stack.Overrides{Nodes: map[string]int{"web": 3}}}, nil)
	if err != nil || !r.Done {
		t.Fatalf("%+v, %v", r, err)
	}
	if !known("balancer-1", "web-3") || known("balancer-2", "web-3") {
		t.Error("web-3 is to be known to the balancer of the host that is there, and to no other one")
	}
	p, err := s.Preview(ctx, Request{Kind: "restart", Force: []string{"web-2"}})
	if err != nil || len(p.Refused) != 1 || !strings.Contains(p.Refused[0], "host two is away") {
		t.Errorf("a node of the host that is away: %q, %v", p.Refused, err)
	}

	two.full.Store(false)
	two.away.Store(false)
	if !poll(ctx, func() bool { return known("balancer-2", "web-3") }) {
		t.Error("the balancer of the host that is back has not taken its configuration up")
	}
	r, err = s.Change(ctx, Request{Kind: "restart", Force: []string{"web-2"}}, nil)
	if err != nil || !r.Done {
		t.Errorf("%+v, %v", r, err)
	}
}
