package supervise

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// A supervisor that begins, for example because another host leads now, finds a host that is not
// well. It looks after the nodes of the other hosts all the same.
func TestAHostThatIsNotWellKeepsNoSupervisorFromTheOthers(t *testing.T) {
	t.Parallel()
	cfg, two := besideFaultyMachine(t, `
name: badly
entry: {listen: "0.0.0.0:%s", auth: none}
apps: {web: {command: [%q], nodes: 2, env: {%s: "1"}}}
redis: {enabled: false}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	// At the first start every host has to be well.
	two.crowded.Store(true)
	if s, err := Open(cfg); err != nil {
		t.Fatal(err)
	} else {
		if err := s.Prepare(); err == nil {
			t.Error("a stack begins on a host without room")
		}
		s.Close()
	}
	two.crowded.Store(false)

	pids := map[string]int{}
	begin := func(what string, cured func()) {
		t.Helper()
		s, err := Open(cfg)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer s.Close()
		if err := s.Prepare(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		started := make(chan error, 1)
		go func() { started <- s.Start(ctx) }()
		for _, n := range s.Status().Nodes {
			if n.Host != "one" {
				continue
			}
			if n.App == "web" && what != "" {
				if err := s.Do(ctx, n.Name, ActKill); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			up := func() bool {
				st, _ := s.Status().Node(n.Name)
				return st.State == Up && (n.App == "" || st.PID != pids[n.Name])
			}
			if !poll(ctx, up) {
				t.Fatalf("%s: %s of the host that is well is not started again", what, n.Name)
			}
		}
		cured()
		if err := <-started; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, n := range s.Status().Nodes {
			if !poll(ctx, func() bool { st, _ := s.Status().Node(n.Name); return st.State == Up }) {
				st, _ := s.Status().Node(n.Name)
				t.Fatalf("%s, and is no more: %+v", what, st)
			}
			st, _ := s.Status().Node(n.Name)
			if was := pids[n.Name]; was != 0 && n.Host == "two" && st.PID != was {
				t.Errorf("%s: %s was started a second time", what, n.Name)
			}
			pids[n.Name] = st.PID
		}
		if !poll(ctx, func() bool { return !s.hosts.absent.any() }) {
			t.Errorf("%s: a host is still done without", what)
		}
		if what == "no fault any more" {
			if err := s.Stop(ctx, nil); err != nil {
				t.Error(err)
			}
		}
	}
	begin("", func() {})
	for what, fault := range map[string]*atomic.Bool{
		"the disk is full": &two.crowded, "nothing can be written": &two.full, "it does not say what runs": &two.silent,
		"programs are missing": &two.bare, "its ports are taken": &two.held,
	} {
		fault.Store(true)
		begin(what, func() { fault.Store(false) })
	}
	begin("no fault any more", func() {})
}

// A node of a host that is away is not reported as stopped: it may run, and then nobody would
// end it. And a host that hangs does not delay anything on the others.
func TestANodeOfAHostThatIsAwayIsNotSaidToBeStopped(t *testing.T) {
	t.Parallel()
	cfg, two := besideFaultyMachine(t, `
name: away
entry: {listen: "0.0.0.0:%s", auth: none}
apps: {web: {command: [%q], nodes: 2, env: {%s: "1"}}}
redis: {enabled: false}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	open := func() *Supervisor {
		t.Helper()
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Prepare(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var here, there NodeStatus
	for _, n := range s.Status().Nodes {
		if n.App == "web" && n.Host == "two" {
			there = n
		} else if n.App == "web" {
			here = n
		}
	}
	s.Close()

	two.away.Store(true)
	s = open()
	defer s.Close()
	started := make(chan error, 1)
	go func() { started <- s.Start(ctx) }()
	for _, action := range []Action{ActStop, ActRestart} {
		if err := s.Do(ctx, there.Name, action); !errors.Is(err, errAway) {
			t.Errorf("%s of a node of a host that is away: %v", action, err)
		}
	}

	// The host is back but hangs, and a node of another host dies.
	two.slow.Store(true)
	two.away.Store(false)
	if err := s.Do(ctx, here.Name, ActKill); err != nil {
		t.Error(err)
	}
	if !poll(ctx, func() bool {
		st, _ := s.Status().Node(here.Name)
		return st.State == Up && st.PID != here.PID
	}) {
		t.Fatal("a node of a host that is well is not started again")
	}
	if !s.hosts.absent.has("two") {
		t.Error("a host that answers nothing is no longer absent: this test saw nothing")
	}
	two.slow.Store(false)
	if err := <-started; err != nil {
		t.Error(err)
	}
	if !poll(ctx, func() bool { st, _ := s.Status().Node(there.Name); return st.State == Up }) {
		t.Fatal("the node is not seen")
	}
	if st, _ := s.Status().Node(there.Name); st.PID != there.PID {
		t.Errorf("the node has pid %d, and had %d", st.PID, there.PID)
	}
	if err := s.Do(ctx, there.Name, ActStop); err != nil {
		t.Error(err)
	}
	if alive, err := s.home(there.Name).alive(ctx, there.Name); alive || err != nil {
		t.Errorf("it is stopped, and runs: %v, %v", alive, err)
	}
	if err := s.Stop(ctx, nil); err != nil {
		t.Error(err)
	}
}
