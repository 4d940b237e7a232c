package supervise

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/process"
	"holdfast/internal/redis/redistest"
)

// writeStateFor writes the file that a guard reads about a cluster.
func writeStateFor(t *testing.T, c *redistest.Cluster, s *Supervisor) {
	t.Helper()
	s.persisted.Secrets.Operator = "secret"
	for _, server := range append(c.Nodes[:len(c.Nodes):len(c.Nodes)], c.Sentinels...) {
		if got := server.Do("ACL", "SETUSER", "operator", "on", ">secret", "~*", "&*", "+@all"); !strings.Contains(got, "OK") {
			t.Fatal(got)
		}
	}
	me, err := process.Identify(os.Getpid()) // a process that is alive
	if err != nil {
		t.Fatal(err)
	}
	s.persisted.Redis = redisMemory{Watch: s.plan.Name, Addresses: map[string]string{}}
	for name, n := range s.nodes {
		if isRedis(name) || isSentinel(name) {
			s.persisted.Redis.Addresses[name] = n.spec().Address
			if err := errors.Join(os.MkdirAll(s.dir.path("nodes", name), 0o700), s.home(name).writeRecord(t.Context(), name, record{Process: me})); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.saveState(); err != nil {
		t.Fatal(err)
	}
}

// fencedCluster returns a cluster whose master refuses writes for a switchover.
func fencedCluster(t *testing.T) (*redistest.Cluster, *Supervisor, *switchover) {
	t.Helper()
	c := redistest.Start(t, 1, 3)
	s := supervisorOfHealthyCluster(t, c)
	writeStateFor(t, c, s)
	w := s.newSwitchover(s.gather(t.Context(), time.Second), "redis-1", "redis-2")
	if err := w.fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, s, w
}

func TestAFenceEndsWhenItsSupervisorHasDied(t *testing.T) {
	t.Parallel()
	c, s, w := fencedCluster(t)
	if got := c.Nodes[0].Do("SET", "k", "v"); !strings.Contains(got, "NOREPLICAS") {
		t.Fatalf("behind the fence: %q", got)
	}

	// No process has the pid -1, so the supervisor has ended.
	guarded := func() error { return GuardFence(t.Context(), s.dir.root, -1, s.log) }
	if err := guarded(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, soon, "the master takes writes", func() bool {
		return strings.Contains(c.Nodes[0].Do("SET", "k", "v"), "OK")
	})

	// A fenced master beside another one takes no writes before it is a replica.
	if err := w.fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Nodes[1].Do("REPLICAOF", "NO", "ONE")
	done := make(chan error, 1)
	go func() { done <- guarded() }()
	redistest.Eventually(t, soon, "the guard is done, and the master of before a replica", func() bool {
		if got := c.Nodes[0].Do("SET", "k", "v"); strings.Contains(got, "OK") && strings.Contains(c.Nodes[1].Do("ROLE"), "master") {
			t.Errorf("it takes writes beside another master: %q", got)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return true
		default:
			return false
		}
	})
}

func TestAGuardWhoseSupervisorLivesDoesNothing(t *testing.T) {
	t.Parallel()
	c, s, _ := fencedCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- GuardFence(ctx, s.dir.root, os.Getppid(), s.log) }()
	select {
	case err := <-done:
		t.Fatalf("it has ended, and its supervisor has not: %v", err)
	case <-time.After(300 * time.Millisecond): // when the supervisor has ended, the fence is lifted sooner
	}
	if got := c.Nodes[0].Do("SET", "k", "v"); !strings.Contains(got, "NOREPLICAS") {
		t.Errorf("the fence of a supervisor that lives is lifted: %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("a guard that is not needed any more: %v", err)
	}
	if got := c.Nodes[0].Do("SET", "k", "v"); !strings.Contains(got, "NOREPLICAS") {
		t.Errorf("a guard that is not needed any more lifts the fence: %q", got)
	}
}
