package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A replica whose data is gone gets a copy from the master. The master dies before the copy is
// complete, and no other replica is there. If the empty one were promoted, all data would be lost,
// also the master's. The first copy is broken off once: from then on the replica has an append-only
// file, which looks like data.
func TestAReplicaThatHasNoDataYetIsNotPromoted(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t)+"redis: {replicas: 1}\n")
	const keys = 30
	for i := range keys {
		if got := s.redisCLI("redis-1", "set", fmt.Sprintf("k%d", i), "v"); got != "OK" {
			t.Fatalf("SET: %s", got)
		}
	}
	s.redisCLI("redis-1", "config", "set", "rdb-key-save-delay", "500000") // µs for each key: the copy takes 15 s

	s.must("stop", "redis-2")
	data := filepath.Join(s.state, "nodes", "redis-2", "data")
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	go func() {
		s.run("start", "redis-2")
		close(started)
	}()
	copying := func() bool {
		n := s.node("redis-2")
		if n.PID == 0 {
			return false
		}
		priority, err := s.redisAt(n.Address, "config", "get", "replica-priority")
		role, _ := s.redisAt(n.Address, "role")
		return err == nil && strings.Contains(role, "sync") && strings.HasSuffix(priority, "0") && !strings.HasSuffix(priority, "100")
	}
	s.await("redis-2 gets its copy", 60*time.Second, copying)
	first := s.node("redis-2").PID
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.await("redis-2 gets a copy again", 60*time.Second, func() bool { return s.node("redis-2").PID != first && copying() })

	if err := syscall.Kill(s.node("redis-1").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.awaitHealthy()
	<-started
	for _, node := range []string{"redis-1", "redis-2"} {
		for i := range keys {
			if got := s.redisCLI(node, "get", fmt.Sprintf("k%d", i)); got != "v" {
				t.Fatalf("k%d at %s is %q", i, node, got)
			}
		}
	}
	s.await("redis-2 may be promoted", 60*time.Second, func() bool {
		return strings.HasSuffix(s.redisCLI("redis-2", "config", "get", "replica-priority"), "100")
	})

	// What was learned from the copy holds: it takes over as any replica does.
	if err := syscall.Kill(s.node("redis-1").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.await("redis-2 is the master", 60*time.Second, func() bool { return s.node("redis-2").Role == "master" })
}
