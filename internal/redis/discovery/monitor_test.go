package discovery

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/redistest"
)

// Many complaints are one round, 20 ms later; who waits for a round's outcome
// does not wait for that.
func TestComplaintsHoldNobodyUpWhoWaitsForARound(t *testing.T) {
	node := redistest.Start(t, 1, 0).Nodes[0]
	m := New(Config{
		Address: node.Addr, Log: slog.New(slog.DiscardHandler),
		AtNodes: conn.Options{Username: redistest.Username, Password: redistest.Password},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	redistest.Eventually(t, 5*time.Second, "the master is found", func() bool { return m.State().Master != "" })
	shortest := time.Hour
	for range 20 {
		m.Look()
		for len(m.nudge) > 0 { // until the monitor has heard it
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		if _, err := m.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(began))
	}
	if shortest > 10*time.Millisecond {
		t.Errorf("a round took %v at the least", shortest)
	}
}

// A node that answers a round late, or none for a while, was silent. One round that it
// misses while there is no master is short.
func TestWhenANodeWasSilentIsRemembered(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	server := cluster.Nodes[0]
	n := &node{peer: &peer{Client: conn.New(conn.Options{Username: redistest.Username, Password: redistest.Password}, server.Addr, conn.Probing)}, view: election.Node{Address: server.Addr}}
	defer n.Stop()
	round := func(limit time.Duration) election.Node {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		n.ask(ctx, 1, false)
		return n.view
	}
	if v := round(10 * time.Second); !v.Answered || !v.Unanswered.IsZero() {
		t.Fatalf("it is well: %+v", v)
	}
	n.view.SilentAt = time.Time{} // the first round connects, which may take long here
	server.Signal(syscall.SIGSTOP)
	defer server.Signal(syscall.SIGCONT)
	before := time.Now()
	if v := round(silentRound / 3); v.Answered || !v.SilentAt.IsZero() || v.Unanswered.Before(before) {
		t.Errorf("after a short round without an answer: %+v", v)
	}
	if v := round(silentRound); v.Answered || v.SilentAt.Before(before) || v.Unanswered.After(v.SilentAt.Add(-silentRound)) {
		t.Errorf("after another one: %+v", v)
	}
	server.Signal(syscall.SIGCONT)
	if v := round(10 * time.Second); !v.Answered || v.SilentAt.Before(before) || !v.Unanswered.IsZero() {
		t.Errorf("it is well again, and it is not forgotten that it was silent: %+v", v)
	}
}

// What the cache has is trusted while its own master answers as one.
func TestAMasterIsFreshWhileItAnswersAsOne(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		master string
		asked  time.Duration // ago
		want   bool
	}{
		"it has just answered":         {"m", 0, true},
		"its answer is old":            {"m", 1200 * time.Millisecond, false},
		"another one is the master":    {"x", 0, false},
		"nobody is known as a master ": {"", 0, false},
	} {
		m := &Monitor{}
		m.state.Store(&State{Master: c.master, asked: now.Add(-c.asked)})
		if got := m.Fresh("m", now, 1200*time.Millisecond); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
