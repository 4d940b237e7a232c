package test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
)

// A replica that hangs keeps a switchover waiting behind its fence. If the supervisor dies there,
// the master takes writes again before there is another supervisor.
func TestASupervisorThatDiesInASwitchoverLeavesAMasterThatTakesWrites(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	s.await("the Sentinels' first look", 10*time.Second, func() bool { return s.master() != "" })
	master := s.node(s.master())
	var replicas []string
	for _, n := range st.Nodes {
		if n.Kind == plan.Redis && n.Name != master.Name {
			replicas = append(replicas, n.Name)
		}
	}
	heir, hangs := s.node(replicas[0]), s.node(replicas[1])
	has := func(address, setting, value string) bool {
		out, err := s.redisAt(address, "config", "get", setting)
		return err == nil && slices.Equal(strings.Fields(out), []string{setting, value})
	}
	soon := func(what string, cond func() bool) {
		t.Helper()
		if !clock.Within(20*time.Second, 5*time.Millisecond, cond) {
			t.Fatal("never: " + what)
		}
	}

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run("switchover", "--to", heir.Name) // its supervisor dies before it ends
	}()
	soon("the Sentinels are steered", func() bool { return has(heir.Address, "replica-priority", "1") })
	if err := syscall.Kill(hangs.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(hangs.PID, syscall.SIGCONT)
	soon("the fence", func() bool { return has(master.Address, "min-replicas-to-write", "1000") })
	kill(t, st.Supervisor)
	<-ended
	if s.status().Supervisor != 0 {
		t.Fatal("a supervisor runs")
	}

	// The node is the master or was replaced just before. Either way writes go on.
	soon("no node refuses writes any more", func() bool {
		return !has(master.Address, "min-replicas-to-write", "1000")
	})
	s.await("a write", 10*time.Second, func() bool { // the first one may fall into a failover
		code, body := get(t, st.Entry+"/set?key=k&value=v")
		return code == 200 && body == "OK. We have set k to be v"
	})
	if s.status().Supervisor != 0 {
		t.Error("a supervisor runs")
	}
	syscall.Kill(hangs.PID, syscall.SIGCONT)
	s.must("up", "-d")
	s.awaitHealthy()
}
