package supervise

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// supervisorOfCluster returns a supervisor of a real cluster, all of whose nodes run.
func supervisorOfCluster(t *testing.T, c *redistest.Cluster) *Supervisor {
	t.Helper()
	s := supervisorOfSentinels(t, c)
	s.cfg.Stack.Redis.Enabled, s.cfg.Stack.Redis.Replicas = true, len(c.Nodes)-1
	for i, server := range c.Nodes {
		name := "redis-" + string(rune('1'+i))
		p := plan.Process{Node: name, Kind: plan.Redis, Address: server.Addr}
		s.host.Processes = append(s.host.Processes, p)
		s.nodes[name], s.admins[name] = newNode(s, p), redis.NewAdmin(redis.Way{}, server.Addr, "", "")
		t.Cleanup(s.admins[name].Close)
	}
	for _, n := range s.nodes {
		if n.spec().Kind == plan.Sentinel {
			s.host.Processes = append(s.host.Processes, *n.spec())
		}
	}
	s.statusBoard = newStatusBoard(plan.Plan{Hosts: []plan.Host{s.host}})
	for _, p := range s.host.Processes {
		if p.Kind != plan.Web {
			s.statusBoard.update(p.Node, func(n *NodeStatus) { n.State, n.PID = Up, 1 })
		}
	}
	return s
}

// These are the steps of a switchover, each with something that can go wrong in it. They share
// one cluster, and run in this order.
func TestASwitchoverGoesOnBesideFaults(t *testing.T) {
	c := redistest.Start(t, 2, 3)
	s := supervisorOfCluster(t, c)
	ctx := t.Context()
	var from, to, f = "", "", redisFacts{}
	redistest.Eventually(t, soon, "a switchover can begin", func() (is bool) {
		f = s.gather(ctx, time.Second)
		var err error
		from, to, err = chooseSuccessor(f, "redis-2")
		return err == nil && len(f.Views) == 3 && len(replicasOf(f, "redis-1")) == 2
	})
	w := s.newSwitchover(f, from, to)
	setting := func(node int, name string) string {
		_, value, _ := strings.Cut(c.Nodes[node].Do("CONFIG", "GET", name), name)
		return strings.TrimSpace(value)
	}

	// A Sentinel in TILT mode would carry the failover out half a minute later.
	c.Sentinels[0].Do("SENTINEL", "DEBUG", "tilt-trigger", "1", "tilt-period", "3600000")
	redistest.Eventually(t, soon, "a Sentinel is in TILT mode", func() bool {
		is, err := s.admins["sentinel-1"].Tilted(ctx)
		return is && err == nil
	})
	leaders, err := w.preferSuccessor(ctx)
	if err != nil || slices.Contains(leaders, "sentinel-1") || len(leaders) == 0 {
		t.Errorf("leaders = %v, %v", leaders, err)
	}

	// A replica that hangs delays nothing, and counts as behind.
	if err := w.fence(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.Nodes[0].Do("SET", "k", "v"); !strings.Contains(got, "NOREPLICAS") {
		t.Errorf("behind the fence: %q", got)
	}
	c.Nodes[2].Signal(syscall.SIGSTOP)
	err = w.awaitSameData(ctx)
	c.Nodes[2].Signal(syscall.SIGCONT)
	if err != nil || !slices.Equal(w.behind, []string{"redis-3"}) {
		t.Errorf("behind are %v, %v", w.behind, err)
	}

	// The Sentinels promote another replica than the successor.
	c.Nodes[2].Do("REPLICAOF", "NO", "ONE")
	if !w.becomesMaster(ctx, soon) || w.to != "redis-3" {
		t.Errorf("%s is the master", w.to)
	}

	// The old master must not accept writes while there is a new one, also if another supervisor
	// takes over.
	w.putBack()
	settle := func() bool {
		s.unsettled.Store(true)
		s.settleRedis(ctx)
		return !s.unsettled.Load()
	}
	if settle() || setting(0, "min-replicas-to-write") != "1000" {
		t.Errorf("min-replicas-to-write = %s beside another master", setting(0, "min-replicas-to-write"))
	}
	if got := setting(1, "replica-priority"); got != "100" {
		t.Errorf("replica-priority = %s", got)
	}
	w.redirectReplicas(ctx)
	if !w.turned {
		t.Error("the old master does not follow the new one")
	}
	redistest.Eventually(t, soon, "the settings are put back", settle)
	for name, value := range s.usualSettings(ctx, "redis-1") {
		if got := setting(0, name); got != value {
			t.Errorf("%s = %s, want %s", name, got, value)
		}
	}
}

func TestASwitchoverToNoRedisNodeIsAMistake(t *testing.T) {
	s, _ := oneNode(t, "true")
	s.cfg.Stack.Redis.Enabled = true
	s.host.Processes = append(s.host.Processes, plan.Process{Node: "redis-1", Kind: plan.Redis})
	for _, to := range []string{"web-1", "nope"} {
		var unknown *UnknownNodeError
		_, err := s.Switchover(t.Context(), to)
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "no redis node is called") || !strings.HasSuffix(err.Error(), "the redis nodes are redis-1") {
			t.Errorf("to %s: %v", to, err)
		}
	}
	s.cfg.Stack.Redis.Enabled = false
	var no *RefusedError
	if _, err := s.Switchover(t.Context(), ""); !errors.As(err, &no) {
		t.Errorf("without Redis: %v", err)
	}
}

// When another version of Holdfast takes the supervisor's place, it finds nothing half done.
func TestNobodyTakesThePlaceOfASupervisorInTheMiddleOfASwitchover(t *testing.T) {
	t.Parallel()
	s, _ := oneNode(t, "true")
	s.statusBoard.enter(PhaseRunning)
	if err := s.MayLeave(); err != nil {
		t.Errorf("where nothing is under way: %v", err)
	}
	s.switching.Lock()
	if err := s.MayLeave(); err == nil || !strings.Contains(err.Error(), "switchover is under way") {
		t.Errorf("while a switchover is under way: %v", err)
	}
	s.switching.Unlock()
	if err := s.MayLeave(); err != nil {
		t.Errorf("after the switchover: %v", err)
	}

	begun, goOn := make(chan bool), make(chan bool)
	go func() {
		_, _ = asTask(s, func() (Switched, error) {
			close(begun)
			<-goOn
			return Switched{}, nil
		})
	}()
	<-begun
	closed := make(chan bool)
	go func() {
		s.tasks.Wait()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("a supervisor ends in the middle of what it does")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	<-closed
}
