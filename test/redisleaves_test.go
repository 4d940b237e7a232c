package test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// The balancers do not know a replica any more that is to leave. Where it becomes the
// master all the same, since the one before it has died, programs that reach Redis
// through a balancer have none until it hands over.
func TestAReplicaThatIsToLeaveAndBecomesTheMasterHandsOverAtTheNextStep(t *testing.T) {
	t.Parallel()
	m := &members{instance: newInstance(t, ""), entry: minimal(t), replicas: 3, sentinels: 3}
	m.set()
	m.must("up", "-d")
	m.awaitHealthy()
	m.becomes("redis-1")
	m.awaitHealthy()
	for _, n := range m.status().Nodes {
		if n.Kind == plan.Redis && n.Name != "redis-4" {
			m.redisCLI(n.Name, "config", "set", "replica-priority", "0") // no Sentinel promotes it
		}
	}
	m.replicas = 2
	m.set()
	cmd := m.command("apply", "--yes")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m.await("a step of web-1", 30*time.Second, func() bool {
		c := m.status().Change
		return c != nil && c.Node == "web-1"
	})
	kill(t, m.node("redis-1").PID)
	var err error
	select {
	case err = <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the apply does not end")
	}
	order := func(step string) int { return strings.Index(said.String(), step+": begun") }
	handsOver, next := order("hand over redis-4"), order("restart web-2")
	if err != nil || handsOver < 0 || next < 0 || handsOver > next {
		t.Errorf("%v: it did\n%s", err, said.String())
	}
	m.awaitHealthy()
	m.exact("a master that was to leave")
}
