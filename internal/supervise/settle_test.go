package supervise

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// The supervisor that led a switchover may have ended. The supervisors of other pods do not
// know about the switchover, and have to find what it left.
func TestWhatTheSupervisorOfAnotherPodLeftIsPutBack(t *testing.T) {
	c := redistest.Start(t, 1, 3)
	s := supervisorOfCluster(t, c)
	s.hosts.apart = true
	ctx := t.Context()
	priority := func() string {
		_, value, _ := strings.Cut(c.Nodes[1].Do("CONFIG", "GET", "replica-priority"), "replica-priority")
		return strings.TrimSpace(value)
	}
	settled := func() bool {
		s.settleRedis(ctx)
		return !s.unsettled.Load()
	}
	s.unsettled.Store(true)
	redistest.Eventually(t, soon, "the nodes have their usual settings", settled)
	if looks := s.lookForLeft(ctx, leftLooks-1); looks != 0 || s.unsettled.Load() {
		t.Errorf("nothing was left: %d looks, unsettled %t", looks, s.unsettled.Load())
	}

	if !s.gather(ctx, time.Second).Apart {
		t.Error("the facts do not say that others look after the other nodes")
	}
	c.Nodes[1].Do("CONFIG", "SET", "replica-priority", "1")
	looks := 0
	for range leftLooks - 1 {
		looks = s.lookForLeft(ctx, looks)
	}
	if looks != leftLooks-1 || s.unsettled.Load() {
		t.Errorf("a switchover may be under way: %d looks, unsettled %t", looks, s.unsettled.Load())
	}
	if s.lookForLeft(ctx, looks); !s.unsettled.Load() {
		t.Error("nothing is to be put back")
	}
	redistest.Eventually(t, soon, "it is put back", settled)
	if is := priority(); is != "100" {
		t.Errorf("the priority is %s", is)
	}
}

// Another pod's switchover relies on the periods that it gives all Sentinels for a short time.
func TestASentinelIsNotToldItsPeriodsAmidAnotherPodsSwitchover(t *testing.T) {
	c := redistest.Start(t, 1, 3)
	s, other := supervisorOfCluster(t, c), supervisorOfCluster(t, c)
	s.hosts.apart, other.hosts.apart = true, true
	sentinel := *s.node("sentinel-1").spec()
	s.statusBoard.update("sentinel-1", func(st *NodeStatus) { st.PID = 7 }) // also known as a Sentinel that was given its periods
	pace := s.periodsOf("sentinel-1")
	probe := func() string {
		t.Helper()
		if err := s.probeSentinel(t.Context(), sentinel); err != nil {
			t.Fatal(err)
		}
		return period(c.Sentinels[0])
	}
	since := func(d time.Duration) { // makes the Sentinel have had other periods for d
		t.Helper()
		if pace.otherSince.IsZero() {
			t.Fatal("it is not known that the Sentinel has other periods")
		}
		pace.otherSince = time.Now().Add(-d)
	}
	c.Sentinels[0].Do("SENTINEL", "DEBUG", "INFO-PERIOD", "10000") // as if no supervisor had given it periods
	if is := probe(); is != "700" {
		t.Fatalf("the period is %s", is)
	}

	other.applyPeriodSteps([]periodStep{{askPeriod, time.Hour}})
	awaitPeriod(t, c.Sentinels[0], "60")
	for range 3 {
		if is := probe(); is != "60" {
			t.Fatalf("it is told its own amid a switchover: %s", is)
		}
	}
	since(othersFor - time.Second)
	if is := probe(); is != "60" {
		t.Errorf("it is told its own amid a switchover: %s", is)
	}
	other.halt() // the switchover is over
	other.tasks.Wait()
	if is := probe(); is != "700" || !pace.otherSince.IsZero() {
		t.Errorf("the switchover is over: %s, others since %v", is, pace.otherSince)
	}

	// A new supervisor does not tell the Sentinel its periods either.
	c.Sentinels[0].Do("SENTINEL", "DEBUG", "INFO-PERIOD", "1000")
	pace.setAgain()
	if is := probe(); is != "1000" {
		t.Errorf("a new supervisor tells it its own amid a switchover: %s", is)
	}
	since(othersFor)
	if is := probe(); is != "700" {
		t.Errorf("the other supervisor has ended in the middle, and the period stays %s", is)
	}

	// A Sentinel that has just started is told at once.
	c.Sentinels[0].Do("SENTINEL", "DEBUG", "INFO-PERIOD", "10000")
	pace.setAgain()
	if is := probe(); is != "700" {
		t.Errorf("a new Sentinel has %s", is)
	}
}

func TestPeriodsAreReviewed(t *testing.T) {
	of := func(info time.Duration) redis.Periods { return redis.Periods{Info: info, Publish: 1, Ping: 2} }
	right, began := of(infoPeriod), time.Now()
	type look struct {
		at      time.Duration
		is      redis.Periods
		failing bool
	}
	for name, c := range map[string]struct {
		looks []look
		told  bool
	}{
		"its own":                        {looks: []look{{0, right, false}, {othersFor, right, false}}},
		"others, for too short":          {looks: []look{{0, of(60 * ms), false}, {othersFor - 1, of(60 * ms), false}}},
		"others, for too long":           {looks: []look{{0, of(60 * ms), false}, {othersFor, of(time.Second), false}}, told: true},
		"its own in between":             {looks: []look{{0, of(60 * ms), false}, {1, right, false}, {othersFor, of(60 * ms), false}}},
		"another ping period":            {looks: []look{{0, redis.Periods{Info: infoPeriod, Publish: 1, Ping: 3}, false}, {othersFor, redis.Periods{Info: infoPeriod, Publish: 1, Ping: 3}, false}}, told: true},
		"a failover is under way":        {looks: []look{{0, of(60 * ms), false}, {othersFor, of(60 * ms), true}}},
		"and the time begins after that": {looks: []look{{0, of(60 * ms), true}, {1, of(60 * ms), false}, {othersFor, of(60 * ms), false}}},
	} {
		p, told := new(sentinelPeriods), false
		for _, l := range c.looks {
			if err := p.review(l.is, l.failing, began.Add(l.at), of, func(d time.Duration) error { told = d == infoPeriod; return nil }); err != nil {
				t.Error(err)
			}
		}
		if told != c.told {
			t.Errorf("%s: told %t", name, told)
		}
	}
}

func TestAFailoverIsLeftToTheSentinelsWhereOthersLookAfterThem(t *testing.T) {
	s := &Supervisor{hosts: hosts{apart: true}}
	if err := s.failOver(t.Context(), "redis-1"); !errors.Is(err, errApart) {
		t.Errorf("%v", err)
	}
}

func TestInPodsTheSentinelsAreHurriedWhereAMasterHasEnded(t *testing.T) {
	c := redistest.Start(t, 1, 3)
	s := supervisorOfCluster(t, c)
	s.hosts.apart = true
	s.cfg.Stack.Redis.DownAfter = longDownAfter // the Sentinels have another period for more than two seconds
	for role, want := range map[string]bool{"replica": false, "master": true, "": true} {
		s.statusBoard.update("redis-1", func(st *NodeStatus) { st.Role = role })
		s.ctx, s.halt = context.WithCancel(t.Context())
		s.redisEnded("redis-1")
		hurried := false
		for end := time.Now().Add(500 * ms); time.Now().Before(end) && !hurried; time.Sleep(10 * ms) {
			hurried = period(c.Sentinels[0]) == "2000"
		}
		s.halt()
		s.tasks.Wait()
		if hurried != want {
			t.Errorf("it was %q: hurried %t", role, hurried)
		}
	}
}
