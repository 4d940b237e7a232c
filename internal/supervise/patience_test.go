package supervise

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// slowNode returns a node whose process runs and never becomes ready.
func slowNode(t *testing.T, start time.Duration) (*Supervisor, *node) {
	s, n := oneNode(t, "exec sleep 1000")
	n.spec().Start = start
	n.spec().Address = "127.0.0.1:1" // nothing listens there
	return s, n
}

func TestAStartWaitsAsLongAsItsApplicationSays(t *testing.T) {
	s, n := slowNode(t, 300*time.Millisecond)
	n.spec().App = "shop"
	s.Watch()
	err := do(t, s, ActStart)
	if err == nil || !strings.Contains(err.Error(), "web-1 is not ready after 300ms (apps.shop.health.start") {
		t.Fatalf("start: %v", err)
	}
	late := status(s)
	if late.State != Starting || late.Until.IsZero() {
		t.Errorf("%+v", late)
	}
	// The time limit of the former process does not apply to the next one.
	if err := do(t, s, ActRestart); err == nil || !strings.Contains(err.Error(), "not ready after 300ms") {
		t.Errorf("restart: %v", err)
	}
	if now := status(s); now.PID == late.PID || !now.Until.After(late.Until) {
		t.Errorf("restart gave up on the process before: %+v, then %+v", late, now)
	}
}

// A redis node may wait for its Sentinels forever. The operator who started it is told why.
func TestAnOperatorWhoStartsANodeIsToldWhyItIsNotReady(t *testing.T) {
	s, _ := slowNode(t, 0)
	before := askedLimit
	askedLimit = 300 * time.Millisecond
	t.Cleanup(func() { askedLimit = before })
	s.Watch()
	err := do(t, s, ActStart)
	if err == nil || !strings.Contains(err.Error(), "web-1 is not ready after 300ms: ") || strings.HasSuffix(err.Error(), ": ") {
		t.Errorf("start: %v", err)
	}
}

func TestHowANodeIsAskedIsNoReasonToStartItAnew(t *testing.T) {
	s, n := slowNode(t, time.Second)
	before := s.digest(*n.spec())
	n.spec().Start, n.spec().Probe = time.Minute, plan.Probe{Kind: plan.ProbeHTTP, Ready: "/", Host: "shop.example"}
	if s.digest(*n.spec()) != before {
		t.Error("it would be started anew")
	}
	n.spec().Args = append(n.spec().Args, "more")
	if s.digest(*n.spec()) == before {
		t.Error("other arguments are no reason either")
	}
}
