package ack

import (
	"maps"
	"slices"
	"testing"
	"time"

	"holdfast/internal/redis/election"
)

// set is an in-sync set with the master's offset after the last batch.
type set struct {
	InSync
	offset   int64
	patience time.Duration
	again    bool // see InSync.Agreed
}

// inSync is the set with these replicas, at a master whose offset after the last batch is
// 100.
func inSync(addrs ...string) *set {
	return &set{InSync: NewInSync(addrs...), offset: 100, patience: 100 * time.Millisecond}
}

func (s *set) agreed(round election.Snapshot) (agreed bool) {
	agreed, s.again = s.Agreed(round, s.offset, s.patience, time.Now())
	return agreed
}

func replica(addr string, offset int64) election.Replica {
	return election.Replica{Address: addr, Offset: offset}
}

// roundOf is what the nodes say: the master with these replicas, and what
// each has confirmed.
func roundOf(replicas ...election.Replica) election.Snapshot {
	return election.Snapshot{
		Verdict: election.Verdict{Master: "m"}, Sentinels: []string{"m", "m", "m"}, DownAfter: 500 * time.Millisecond, Asked: time.Now(),
		Nodes: []election.Node{{Address: "m", Master: true, Offset: 120, Replicas: replicas}},
	}
}

func (s *set) out() []string { return slices.Sorted(maps.Keys(s.behind)) }

func TestEveryReplicaInSyncHasToConfirm(t *testing.T) {
	s := inSync("a", "b")
	if !s.agreed(roundOf(replica("a", 100), replica("b", 130))) || s.Count != 2 {
		t.Errorf("both have it: expect %d", s.Count)
	}
	// One confirms that is not in sync: it does not stand in for the other.
	s = inSync("a")
	s.behind["b"] = absence{until: time.Now().Add(time.Hour)}
	if s.agreed(roundOf(replica("a", 99), replica("b", 100))) || !s.again || s.Count != 1 {
		t.Errorf("another's word counted: %+v", s)
	}
	if !s.agreed(roundOf(replica("a", 100), replica("b", 1))) {
		t.Error("one that is not in sync was waited for")
	}
}

func TestADeadReplicaIsNotWaitedFor(t *testing.T) {
	s := inSync("a", "b")
	if !s.agreed(roundOf(replica("a", 100))) || s.Count != 1 || len(s.out()) > 0 {
		t.Errorf("expect %d, out %v", s.Count, s.out())
	}
}

// missedFor has a set wait for replicas that miss deadlines since so long ago, and
// whose last word is these offsets.
func (s *set) missedFor(since time.Duration, heard ...election.Replica) {
	s.missed, s.heard = time.Now().Add(-since), map[string]progress{}
	for _, r := range heard {
		s.heard[r.Address] = progress{offset: r.Offset, since: s.missed}
	}
}

func TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted(t *testing.T) {
	s := inSync("a", "b")
	now := roundOf(replica("a", 110), replica("b", 90))
	if s.agreed(now) || !s.again {
		t.Fatal("it was not waited for")
	}
	s.missedFor(1100*time.Millisecond, replica("b", 90)) // 500 ms, a ping's time, and a tick
	if s.agreed(now) {
		t.Error("it was given up before Sentinels can have been heard")
	}
	s.missedFor(1300*time.Millisecond, replica("b", 90))
	if !s.agreed(now) || s.Count != 1 || !slices.Equal(s.out(), []string{"b"}) {
		t.Errorf("expect %d, out %v", s.Count, s.out())
	}
}

func TestASlowReplicaLeavesSoonAndComesBackLater(t *testing.T) {
	s := inSync("a", "b")
	now := roundOf(replica("a", 110), replica("b", 95))
	s.missedFor(50*time.Millisecond, replica("b", 90)) // it has confirmed something since
	if s.agreed(now) {
		t.Fatal("it was not waited for")
	}
	s.missedFor(150*time.Millisecond, replica("b", 90))
	if !s.agreed(now) || !slices.Equal(s.out(), []string{"b"}) {
		t.Fatalf("out %v", s.out())
	}
	first := s.behind["b"].until
	s.leave(now.MasterNode(), []election.Replica{replica("b", 95)}, time.Now())
	if again := s.behind["b"].until; again.Sub(first) < leastAbsence/2 {
		t.Errorf("the second absence is no longer than the first: %v", again.Sub(first))
	}
}

// It lacked nothing when it was last looked at, so what it has confirmed since is news.
func TestAReplicaThatFallsBehindWhileAnotherIsSilentIsSlow(t *testing.T) {
	s := inSync("a", "b")
	s.missedFor(time.Second, replica("b", 90))
	if s.agreed(roundOf(replica("a", 110), replica("b", 90))) {
		t.Fatal("a silent one was given up")
	}
	s.missed, s.offset = time.Now().Add(-time.Second), 130
	s.heard["b"] = progress{offset: 90, since: time.Now().Add(-1300 * time.Millisecond)}
	if !s.agreed(roundOf(replica("a", 120), replica("b", 90))) || len(s.out()) != 2 {
		t.Errorf("out %v", s.out())
	}

	s = inSync("a", "b")
	s.missedFor(time.Second, replica("b", 90))
	s.agreed(roundOf(replica("a", 110), replica("b", 90)))
	s.missed, s.offset = time.Now().Add(-time.Second), 130
	s.heard["b"] = progress{offset: 90, since: time.Now().Add(-1300 * time.Millisecond)}
	if s.agreed(roundOf(replica("a", 110), replica("b", 90))) {
		t.Error("one that has confirmed nothing since is not slow")
	}
}

// A slow replica may be cut off, too: what it confirmed before says nothing of that.
func TestASlowReplicaThatFallsSilentIsASilentOne(t *testing.T) {
	s := inSync("a", "b")
	s.missedFor(50*time.Millisecond, replica("b", 90))
	if s.agreed(roundOf(replica("a", 110), replica("b", 95))) {
		t.Fatal("it was not waited for")
	}
	s.missed = time.Now().Add(-time.Second)
	silent := roundOf(replica("a", 110), replica("b", 95))
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
				now := roundOf(replicas...)
				now.Nodes = append(now.Nodes, follows("a"), follows("b"))
				change(&now)
				return now
			}
			s := inSync("a", "b")
			s.missedFor(time.Minute, replica("b", 90))
			if s.agreed(round(replica("a", 110), replica("b", 95))) || !s.again {
				t.Error("one that is slow was given up")
			}
			if time.Since(s.missed) > 10*time.Second {
				t.Error("the time in which nobody could tell counts")
			}
			if s.agreed(round(replica("a", 110))) {
				t.Error("one that has left the master was given up")
			}
			if !s.agreed(round(replica("a", 110), replica("b", 100))) {
				t.Error("everybody has it, and it was not answered")
			}
		})
	}
}

// Without anybody in sync, what is read has to be on some replica if one is
// there.
func TestWithNobodyInSyncAnyReplicaWillDo(t *testing.T) {
	s := inSync()
	if s.agreed(roundOf(replica("a", 99), replica("b", 0))) {
		t.Error("nobody has it, and it was answered")
	}
	s = inSync()
	if !s.agreed(roundOf(replica("a", 100), replica("b", 0))) {
		t.Error("one has it, and it was not answered")
	}
	s = inSync()
	if !s.agreed(roundOf()) {
		t.Error("nobody is there to have it, and the Sentinels stand by the master")
	}
}

func TestWithoutTheOffsetNobodyHasConfirmed(t *testing.T) {
	s := inSync("a", "b")
	s.offset = 0
	if s.agreed(roundOf(replica("a", 110))) || !s.Lagging() || s.Count != 1 {
		t.Errorf("answered, or nobody asks for the offset next: %+v", s)
	}
}

func TestAReplicaThatHasJustComeJoinsLater(t *testing.T) {
	s := inSync("a")
	s.Grow(roundOf(replica("a", 100), replica("b", 100)).MasterNode(), time.Now())
	if s.Count != 1 || !slices.Equal(s.out(), []string{"b"}) {
		t.Fatalf("expect %d, out %v", s.Count, s.out())
	}
	s.behind["b"] = absence{offset: 120, until: time.Now()}
	s.Grow(roundOf(replica("a", 100), replica("b", 100)).MasterNode(), time.Now())
	if s.Count != 1 {
		t.Error("it joined before it had caught up")
	}
	s.Grow(roundOf(replica("a", 130), replica("b", 120)).MasterNode(), time.Now())
	if s.Count != 2 || len(s.out()) > 0 {
		t.Errorf("expect %d, out %v", s.Count, s.out())
	}
	// The first one of all is in sync at once.
	s = inSync()
	s.Grow(roundOf(replica("b", 100)).MasterNode(), time.Now())
	if s.Count != 1 {
		t.Error("the only replica is not in sync")
	}
}

// A web node that stood still after the Sentinels had answered knows no more than before.
func TestAReplicaIsWaitedForUntilTheSentinelsWereAskedLateEnough(t *testing.T) {
	t.Parallel()
	fell := time.Now().Add(-time.Minute)
	s := inSync()
	s.missed = fell
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
		if got := s.waitsFor([]election.Replica{replica("b:1", 5)}, asked, 200*time.Millisecond); got != c.patient {
			t.Errorf("%v after it fell silent, or slow (%v): %v", c.after, c.slow, got)
		}
	}

	// While nobody can tell who the master is, no time counts.
	s.Restart(time.Now())
	if time.Since(s.missed) > 10*time.Second {
		t.Error("the time before counts")
	}
	s.missed = time.Time{}
	s.Restart(time.Now())
	if s.Lagging() {
		t.Error("replicas miss deadlines that missed none")
	}
}
