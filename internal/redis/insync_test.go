package redis

import (
	"holdfast/internal/redis/election"
	"maps"
	"slices"
	"testing"
	"time"
)

// inSync is a session with replicas that are in sync, at a master whose offset
// after the last batch is 100.
func inSync(addrs ...string) *session {
	s := &session{
		w: &writer{cfg: Config{AckTimeout: 150 * time.Millisecond}}, master: "m", offset: 100,
		behind: map[string]absence{}, there: map[string]bool{}, strikes: map[string]int{}, expect: len(addrs),
	}
	for _, a := range addrs {
		s.there[a] = true
	}
	return s
}

// confirmed is what the nodes say: the master with these replicas, and what
// each has confirmed.
func confirmed(replicas ...election.Replica) election.Snapshot {
	return election.Snapshot{
		Verdict: election.Verdict{Master: "m"}, Sentinels: []string{"m", "m", "m"}, DownAfter: 500 * time.Millisecond, Asked: time.Now(),
		Nodes: []election.Node{{Address: "m", Master: true, Offset: 120, Replicas: replicas}},
	}
}

func (s *session) out() []string { return slices.Sorted(maps.Keys(s.behind)) }

func TestEveryReplicaInSyncHasToConfirm(t *testing.T) {
	s := inSync("a", "b")
	if !s.agreed(confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 130})) || s.expect != 2 {
		t.Errorf("both have it: expect %d", s.expect)
	}
	// One confirms that is not in sync: it does not stand in for the other.
	s = inSync("a")
	s.behind["b"] = absence{until: time.Now().Add(time.Hour)}
	if s.agreed(confirmed(election.Replica{Address: "a", Offset: 99}, election.Replica{Address: "b", Offset: 100})) || s.pause == 0 || s.expect != 1 {
		t.Errorf("another's word counted: %+v", s)
	}
	if !s.agreed(confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 1})) {
		t.Error("one that is not in sync was waited for")
	}
}

func TestADeadReplicaIsNotWaitedFor(t *testing.T) {
	s := inSync("a", "b")
	if !s.agreed(confirmed(election.Replica{Address: "a", Offset: 100})) || s.expect != 1 || len(s.out()) > 0 {
		t.Errorf("expect %d, out %v", s.expect, s.out())
	}
}

// missedFor has a session wait for replicas that miss deadlines since so long ago, and
// whose last word is these offsets.
func (s *session) missedFor(since time.Duration, heard ...election.Replica) {
	s.missed, s.heard = time.Now().Add(-since), map[string]progress{}
	for _, r := range heard {
		s.heard[r.Address] = progress{offset: r.Offset, since: s.missed}
	}
}

func TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted(t *testing.T) {
	s := inSync("a", "b")
	now := confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 90})
	if s.agreed(now) || s.pause == 0 {
		t.Fatal("it was not waited for")
	}
	s.missedFor(1100*time.Millisecond, election.Replica{Address: "b", Offset: 90}) // 500 ms, a ping's time, and a tick
	if s.agreed(now) {
		t.Error("it was given up before Sentinels can have been heard")
	}
	s.missedFor(1300*time.Millisecond, election.Replica{Address: "b", Offset: 90})
	if !s.agreed(now) || s.expect != 1 || !slices.Equal(s.out(), []string{"b"}) {
		t.Errorf("expect %d, out %v", s.expect, s.out())
	}
}

func TestASlowReplicaLeavesSoonAndComesBackLater(t *testing.T) {
	s := inSync("a", "b")
	now := confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 95})
	s.missedFor(50*time.Millisecond, election.Replica{Address: "b", Offset: 90}) // it has confirmed something since
	if s.agreed(now) {
		t.Fatal("it was not waited for")
	}
	s.missedFor(150*time.Millisecond, election.Replica{Address: "b", Offset: 90})
	if !s.agreed(now) || !slices.Equal(s.out(), []string{"b"}) {
		t.Fatalf("out %v", s.out())
	}
	first := s.behind["b"].until
	s.leave(now.MasterNode(), []election.Replica{{Address: "b", Offset: 95}})
	if again := s.behind["b"].until; again.Sub(first) < leastAbsence/2 {
		t.Errorf("the second absence is no longer than the first: %v", again.Sub(first))
	}
}

// It lacked nothing when it was last looked at, so what it has confirmed since is news.
func TestAReplicaThatFallsBehindWhileAnotherIsSilentIsSlow(t *testing.T) {
	s := inSync("a", "b")
	s.missedFor(time.Second, election.Replica{Address: "b", Offset: 90})
	if s.agreed(confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 90})) {
		t.Fatal("a silent one was given up")
	}
	s.missed, s.offset = time.Now().Add(-time.Second), 130
	s.heard["b"] = progress{offset: 90, since: time.Now().Add(-1300 * time.Millisecond)}
	if !s.agreed(confirmed(election.Replica{Address: "a", Offset: 120}, election.Replica{Address: "b", Offset: 90})) || len(s.out()) != 2 {
		t.Errorf("out %v", s.out())
	}

	s = inSync("a", "b")
	s.missedFor(time.Second, election.Replica{Address: "b", Offset: 90})
	s.agreed(confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 90}))
	s.missed, s.offset = time.Now().Add(-time.Second), 130
	s.heard["b"] = progress{offset: 90, since: time.Now().Add(-1300 * time.Millisecond)}
	if s.agreed(confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 90})) {
		t.Error("one that has confirmed nothing since is not slow")
	}
}

// A slow replica may be cut off, too: what it confirmed before says nothing of that.
func TestASlowReplicaThatFallsSilentIsASilentOne(t *testing.T) {
	s := inSync("a", "b")
	s.missedFor(50*time.Millisecond, election.Replica{Address: "b", Offset: 90})
	if s.agreed(confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 95})) {
		t.Fatal("it was not waited for")
	}
	s.missed = time.Now().Add(-time.Second)
	silent := confirmed(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 95})
	if s.agreed(silent) {
		t.Error("it was given up for slow")
	}
	silent.Asked = time.Now().Add(1300 * time.Millisecond)
	if !s.agreed(silent) {
		t.Error("it was not given up for silent")
	}
}

// A leader may have chosen a replica before that one fell behind.
func TestNobodyIsGivenUpWhileTheSentinelsDoNotStandByTheMaster(t *testing.T) {
	for name, change := range map[string]func(*election.Snapshot){
		"one of them doubts it":                 func(s *election.Snapshot) { s.Doubted = true },
		"they voted, and nobody knows for what": func(s *election.Snapshot) { s.Electing = true },
		"no majority is heard":                  func(s *election.Snapshot) { s.Sentinels = []string{"m", "", ""} },
	} {
		t.Run(name, func(t *testing.T) {
			follows := func(addr string) election.Node { return election.Node{Address: addr, Answered: true, Follows: "m"} }
			round := func(replicas ...election.Replica) election.Snapshot {
				now := confirmed(replicas...)
				now.Nodes = append(now.Nodes, follows("a"), follows("b"))
				change(&now)
				return now
			}
			s := inSync("a", "b")
			s.missedFor(time.Minute, election.Replica{Address: "b", Offset: 90})
			if s.agreed(round(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 95})) || s.pause == 0 {
				t.Error("one that is slow was given up")
			}
			if time.Since(s.missed) > 10*time.Second {
				t.Error("the time in which nobody could tell counts")
			}
			if s.agreed(round(election.Replica{Address: "a", Offset: 110})) {
				t.Error("one that has left the master was given up")
			}
			if !s.agreed(round(election.Replica{Address: "a", Offset: 110}, election.Replica{Address: "b", Offset: 100})) {
				t.Error("everybody has it, and it was not answered")
			}
		})
	}
}

// Without anybody in sync, what is read has to be on some replica if one is
// there.
func TestWithNobodyInSyncAnyReplicaWillDo(t *testing.T) {
	s := inSync()
	if s.agreed(confirmed(election.Replica{Address: "a", Offset: 99}, election.Replica{Address: "b", Offset: 0})) {
		t.Error("nobody has it, and it was answered")
	}
	s = inSync()
	if !s.agreed(confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 0})) {
		t.Error("one has it, and it was not answered")
	}
	s = inSync()
	if !s.agreed(confirmed()) {
		t.Error("nobody is there to have it, and the Sentinels stand by the master")
	}
}

func TestWithoutTheOffsetNobodyHasConfirmed(t *testing.T) {
	s := inSync("a", "b")
	s.offset = 0
	if s.agreed(confirmed(election.Replica{Address: "a", Offset: 110})) || s.missed.IsZero() || s.expect != 1 {
		t.Errorf("answered, or nobody asks for the offset next: %+v", s)
	}
}

func TestAReplicaThatHasJustComeJoinsLater(t *testing.T) {
	s := inSync("a")
	s.w.monitor = newMonitor(Config{Address: "m"}.withDefaults())
	s.w.monitor.publish(confirmed(election.Replica{Address: "a", Offset: 100}, election.Replica{Address: "b", Offset: 100}))
	s.grow()
	if s.expect != 1 || !slices.Equal(s.out(), []string{"b"}) {
		t.Fatalf("expect %d, out %v", s.expect, s.out())
	}
	s.behind["b"] = absence{offset: 120, until: time.Now()}
	s.grow()
	if s.expect != 1 {
		t.Error("it joined before it had caught up")
	}
	s.w.monitor.publish(confirmed(election.Replica{Address: "a", Offset: 130}, election.Replica{Address: "b", Offset: 120}))
	s.grow()
	if s.expect != 2 || len(s.out()) > 0 {
		t.Errorf("expect %d, out %v", s.expect, s.out())
	}
	// The first one of all is in sync at once.
	s = inSync()
	s.w.monitor = newMonitor(Config{Address: "m"}.withDefaults())
	s.w.monitor.publish(confirmed(election.Replica{Address: "b", Offset: 100}))
	s.grow()
	if s.expect != 1 {
		t.Error("the only replica is not in sync")
	}
}

// A web node that stood still after the Sentinels had answered knows no more than before.
func TestAReplicaIsWaitedForUntilTheSentinelsWereAskedLateEnough(t *testing.T) {
	t.Parallel()
	fell := time.Now().Add(-time.Minute)
	s := &session{w: &writer{cfg: Config{AckTimeout: 300 * time.Millisecond}}, missed: fell}
	now := election.Snapshot{DownAfter: time.Second, Sentinels: []string{"a:1", "a:1", "a:1"}, Verdict: election.Verdict{Master: "a:1"}}
	for _, c := range []struct {
		after    time.Duration
		slow     bool
		patient  bool
		sentinel bool
	}{
		{10 * time.Millisecond, false, true, true}, {2 * time.Second, false, true, true}, {2201 * time.Millisecond, false, false, true},
		{10 * time.Millisecond, true, true, true}, {201 * time.Millisecond, true, false, true},
		{201 * time.Millisecond, false, false, false}, // nobody could promote it
	} {
		s.heard = map[string]progress{"b:1": {offset: 5, since: fell, news: c.slow}}
		asked := now
		asked.Asked = fell.Add(c.after)
		if !c.sentinel {
			asked.Sentinels = nil
		}
		if got := s.patient(asked, []election.Replica{{Address: "b:1", Offset: 5}}); got != c.patient {
			t.Errorf("%v after it fell silent, or slow (%v): %v", c.after, c.slow, got)
		}
	}

	// While nobody can tell who the master is, no time counts.
	s.missAnew()
	if time.Since(s.missed) > 10*time.Second {
		t.Error("the time before counts")
	}
	s.missed = time.Time{}
	s.missAnew()
	if !s.missed.IsZero() {
		t.Error("replicas miss deadlines that missed none")
	}
}
