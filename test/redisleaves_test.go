package test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// The balancers lead programs to the Redis master. If a node becomes master that they do not know,
// as when the previous master dies in the middle of a change, programs have no master until that
// node hands over.

// applying starts to apply the file. The function that it returns waits for the end, and returns
// the output.
func (m *membershipStack) applying() (end func() (said string, err error)) {
	m.t.Helper()
	m.set()
	cmd := m.command("apply", "--yes")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return func() (string, error) {
		m.t.Helper()
		select {
		case err := <-ended:
			return said.String(), err
		case <-time.After(2 * time.Minute):
			cmd.Process.Kill()
			<-ended
			m.t.Fatalf("the apply does not end:\n%s", said.String())
			return "", nil
		}
	}
}

// awaitStep waits until a change works on a node.
func (m *membershipStack) awaitStep(node string) {
	m.t.Helper()
	m.await("a step of "+node, 30*time.Second, func() bool {
		c := m.status().Change
		return c != nil && c.Node == node
	})
}

func TestAReplicaThatIsToLeaveAndBecomesTheMasterHandsOverAtTheNextStep(t *testing.T) {
	beside(t, oneStack)
	m := &membershipStack{instance: newInstance(t, ""), entry: minimal(t), replicas: 3, sentinels: 3}
	m.set()
	m.must("up", "-d")
	m.awaitHealthy()
	m.makeMaster("redis-1")
	m.awaitHealthy()
	for _, n := range m.status().Nodes {
		if n.Kind == plan.Redis && n.Name != "redis-4" {
			m.redisCLI(n.Name, "config", "set", "replica-priority", "0") // so that no Sentinel promotes it
		}
	}
	m.replicas = 2
	m.entry += "apps: {web: {kv: {hold: 4s}}}\n" // so that there are steps between the kill and redis-4's own
	end := m.applying()
	m.awaitStep("web-1")
	kill(t, m.node("redis-1").PID)
	said, err := end()
	order := func(step string) int { return strings.Index(said, step+": begun") }
	handsOver, next := order("hand over redis-4"), order("restart web-2")
	if err != nil || handsOver < 0 || next < 0 || handsOver > next {
		t.Errorf("%v: it did\n%s", err, said)
	}
	m.awaitHealthy()
	m.requireExactMembership("a master that was to leave")
}

func TestAReplicaThatNoBalancerKnowsYetAndBecomesTheMasterHandsOverAtTheNextStep(t *testing.T) {
	beside(t, oneStack)
	m := &membershipStack{instance: newInstance(t, ""), entry: minimal(t), replicas: 2, sentinels: 3, settle: "2s"}
	m.set()
	m.must("up", "-d")
	m.awaitHealthy()
	m.replicas, m.sentinels = 3, 5
	end := m.applying()
	m.awaitStep("sentinel-4")
	m.must("switchover", "--to", "redis-4")
	m.await("a master that the balancers know", 20*time.Second, func() bool {
		now := m.master()
		return now != "" && now != "redis-4"
	})
	if c := m.status().Change; c == nil || !strings.HasPrefix(c.Node, "sentinel-") {
		t.Errorf("it handed over at %+v", c)
	}
	if said, err := end(); err != nil {
		t.Errorf("%v: it did\n%s", err, said)
	}
	m.awaitHealthy()
	m.requireExactMembership("a master that had just come")
}
