package redis

import (
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
func confirmed(replicas ...replicaView) snapshot {
	return snapshot{
		verdict: verdict{master: "m"}, sentinels: []string{"m", "m", "m"}, downAfter: 500 * time.Millisecond, asked: time.Now(),
		nodes: []nodeView{{addr: "m", master: true, offset: 120, replicas: replicas}},
	}
}

func (s *session) out() []string { return slices.Sorted(maps.Keys(s.behind)) }

func TestEveryReplicaInSyncHasToConfirm(t *testing.T) {
	s := inSync("a", "b")
	if !s.agreed(confirmed(replicaView{"a", 100}, replicaView{"b", 130})) || s.expect != 2 {
		t.Errorf("both have it: expect %d", s.expect)
	}
	// One confirms that is not in sync: it does not stand in for the other.
	s = inSync("a")
	s.behind["b"] = absence{until: time.Now().Add(time.Hour)}
	if s.agreed(confirmed(replicaView{"a", 99}, replicaView{"b", 100})) || s.pause == 0 || s.expect != 1 {
		t.Errorf("another's word counted: %+v", s)
	}
	if !s.agreed(confirmed(replicaView{"a", 100}, replicaView{"b", 1})) {
		t.Error("one that is not in sync was waited for")
	}
}

func TestADeadReplicaIsNotWaitedFor(t *testing.T) {
	s := inSync("a", "b")
	if !s.agreed(confirmed(replicaView{"a", 100})) || s.expect != 1 || len(s.out()) > 0 {
		t.Errorf("expect %d, out %v", s.expect, s.out())
	}
}

func TestASilentReplicaIsWaitedForAsLongAsItMayBePromoted(t *testing.T) {
	s := inSync("a", "b")
	now := confirmed(replicaView{"a", 110}, replicaView{"b", 90})
	if s.agreed(now) || s.pause == 0 {
		t.Fatal("it was not waited for")
	}
	s.missed = time.Now().Add(-1100 * time.Millisecond) // 500 ms, a ping's time, and a tick
	if s.agreed(now) {
		t.Error("it was given up before Sentinels can have been heard")
	}
	s.missed = time.Now().Add(-1300 * time.Millisecond)
	if !s.agreed(now) || s.expect != 1 || !slices.Equal(s.out(), []string{"b"}) {
		t.Errorf("expect %d, out %v", s.expect, s.out())
	}
}

func TestASlowReplicaLeavesSoonAndComesBackLater(t *testing.T) {
	s := inSync("a", "b")
	now := confirmed(replicaView{"a", 110}, replicaView{"b", 95})
	s.missed, s.missedAt = time.Now().Add(-50*time.Millisecond), 90 // it has confirmed something since
	if s.agreed(now) {
		t.Fatal("it was not waited for")
	}
	s.missed = time.Now().Add(-150 * time.Millisecond)
	if !s.agreed(now) || !slices.Equal(s.out(), []string{"b"}) {
		t.Fatalf("out %v", s.out())
	}
	first := s.behind["b"].until
	s.leave(now.node(), []replicaView{{"b", 95}})
	if again := s.behind["b"].until; again.Sub(first) < leastAbsence/2 {
		t.Errorf("the second absence is no longer than the first: %v", again.Sub(first))
	}
}

// Without anybody in sync, what is read has to be on some replica if one is
// there.
func TestWithNobodyInSyncAnyReplicaWillDo(t *testing.T) {
	s := inSync()
	if s.agreed(confirmed(replicaView{"a", 99}, replicaView{"b", 0})) {
		t.Error("nobody has it, and it was answered")
	}
	s = inSync()
	if !s.agreed(confirmed(replicaView{"a", 100}, replicaView{"b", 0})) {
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
	if s.agreed(confirmed(replicaView{"a", 110})) || s.missed.IsZero() || s.expect != 1 {
		t.Errorf("answered, or nobody asks for the offset next: %+v", s)
	}
}

func TestAReplicaThatHasJustComeJoinsLater(t *testing.T) {
	s := inSync("a")
	s.w.monitor = newMonitor(Config{Address: "m"}.withDefaults())
	s.w.monitor.publish(confirmed(replicaView{"a", 100}, replicaView{"b", 100}))
	s.grow()
	if s.expect != 1 || !slices.Equal(s.out(), []string{"b"}) {
		t.Fatalf("expect %d, out %v", s.expect, s.out())
	}
	s.behind["b"] = absence{offset: 120, until: time.Now()}
	s.grow()
	if s.expect != 1 {
		t.Error("it joined before it had caught up")
	}
	s.w.monitor.publish(confirmed(replicaView{"a", 130}, replicaView{"b", 120}))
	s.grow()
	if s.expect != 2 || len(s.out()) > 0 {
		t.Errorf("expect %d, out %v", s.expect, s.out())
	}
	// The first one of all is in sync at once.
	s = inSync()
	s.w.monitor = newMonitor(Config{Address: "m"}.withDefaults())
	s.w.monitor.publish(confirmed(replicaView{"b", 100}))
	s.grow()
	if s.expect != 1 {
		t.Error("the only replica is not in sync")
	}
}

// A web node that stood still after the Sentinels had answered knows no more than before.
func TestAReplicaIsWaitedForUntilTheSentinelsWereAskedLateEnough(t *testing.T) {
	t.Parallel()
	fell := time.Now().Add(-time.Minute)
	s := &session{w: &writer{cfg: Config{AckTimeout: 300 * time.Millisecond}}, missed: fell, missedAt: 10}
	now := snapshot{downAfter: time.Second, sentinels: []string{"a:1", "a:1", "a:1"}, verdict: verdict{master: "a:1"}}
	for _, c := range []struct {
		after    time.Duration
		offset   int64
		patient  bool
		sentinel bool
	}{
		{10 * time.Millisecond, 5, true, true}, {2 * time.Second, 5, true, true}, {2201 * time.Millisecond, 5, false, true},
		{10 * time.Millisecond, 10, true, true}, {201 * time.Millisecond, 10, false, true}, // it is slow
		{201 * time.Millisecond, 5, false, false}, // nobody could promote it
	} {
		asked := now
		asked.asked = fell.Add(c.after)
		if !c.sentinel {
			asked.sentinels = nil
		}
		if got := s.patient(asked, []replicaView{{"b:1", c.offset}}); got != c.patient {
			t.Errorf("%v after it fell silent, at %d: %v", c.after, c.offset, got)
		}
	}

	// While nobody can tell who the master is, no time counts.
	s.missAnew(now)
	if time.Since(s.missed) > 10*time.Second {
		t.Error("the time before counts")
	}
	s.missed = time.Time{}
	s.missAnew(now)
	if !s.missed.IsZero() {
		t.Error("replicas miss deadlines that missed none")
	}
}
