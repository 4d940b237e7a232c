package supervise

import (
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/process"
)

// A node is killed for silence because of its failed probes, and not because the supervisor was
// away for long.
func TestANodeIsNotKilledForTheSupervisorsOwnAbsence(t *testing.T) {
	s, n := oneNode(t, "sleep 60")
	n.spec().Kind = plan.Balancer
	var err error
	if n.proc, err = s.startProcess(*n.spec(), n.spec().Args); err != nil {
		t.Fatal(err)
	}
	n.want, n.state, n.upSince = wantUp, Up, time.Now()
	n.probed(probeResult{proc: n.proc, began: time.Now().Add(-time.Hour), detail: "silent"})
	if !process.Alive(n.proc.ID()) {
		t.Fatal("it was killed after one probe that came back late")
	}
	if limit := n.probeLimit(); limit <= 0 || limit > plan.Balancer.Traits().HangLimit-probeTimeout+100*time.Millisecond {
		t.Errorf("the next probe may take %v", limit)
	}
	n.hungFrom = time.Now().Add(-plan.Balancer.Traits().HangLimit)
	if limit := n.probeLimit(); limit != probeUp {
		t.Errorf("the last probe may take %v", limit)
	}
	n.probed(probeResult{proc: n.proc, began: time.Now(), detail: "silent"})
	select {
	case <-n.proc.Done():
	case <-time.After(5 * time.Second):
		n.proc.SignalGroup(syscall.SIGKILL)
		t.Error("it was not killed")
	}
}
