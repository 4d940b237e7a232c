package supervise

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// The supervisor that led a switchover may have ended. Those of the other nodes know nothing
// of it, and find what it left by looking.
func TestWhatTheSupervisorOfAnotherPodLeftIsPutBack(t *testing.T) {
	c := redistest.Start(t, 1, 3)
	s := ofCluster(t, c)
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

	// So are the periods of a Sentinel.
	sentinel := *s.node("sentinel-1").spec()
	probe := func() string {
		if err := s.probeSentinel(ctx, sentinel); err != nil {
			t.Fatal(err)
		}
		return period(c.Sentinels[0])
	}
	if is := probe(); is != "700" {
		t.Errorf("the period is %s", is)
	}
	c.Sentinels[0].Do("SENTINEL", "DEBUG", "INFO-PERIOD", "60")
	if is := probe(); is != "60" {
		t.Errorf("it is told again at once: %s", is)
	}
	s.paceOf("sentinel-1").toldAt = time.Now().Add(-retell)
	if is := probe(); is != "700" {
		t.Errorf("the period is %s a minute later", is)
	}
}

func TestAFailoverIsLeftToTheSentinelsWhereOthersLookAfterThem(t *testing.T) {
	s := &Supervisor{hosts: hosts{apart: true}}
	if err := s.failOver(t.Context(), "redis-1"); !errors.Is(err, errApart) {
		t.Errorf("%v", err)
	}
}
