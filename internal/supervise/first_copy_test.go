package supervise

import (
	"path"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/machine"
	"holdfast/internal/redis/redistest"
)

func TestARedisNodeIsNotPromotedBeforeItsFirstCopy(t *testing.T) {
	c := redistest.Start(t, 1, 3)
	s := supervisorOfCluster(t, c)
	ctx, replica := t.Context(), c.Nodes[1]
	host := s.home("redis-2")
	start := func() []string {
		t.Helper()
		args, err := s.untilFilled(ctx, host, "redis-2", []string{"redis.conf"})
		if err != nil {
			t.Fatal(err)
		}
		return args[1:]
	}
	priority := func() string {
		_, value, _ := strings.Cut(replica.Do("CONFIG", "GET", "replica-priority"), "replica-priority")
		return strings.TrimSpace(value)
	}

	if args := start(); len(args) > 0 {
		t.Errorf("at the first boot, when no node has data, it starts with %v", args)
	}
	s.booted.Store(true)
	notPromoted := []string{"--replica-priority", "0"}
	if args := start(); !slices.Equal(args, notPromoted) {
		t.Errorf("without data it starts with %v", args)
	}
	if err := host.MakeDir(ctx, path.Dir(manifest("redis-2"))); err != nil {
		t.Fatal(err)
	}
	// This is what Redis writes at its start, before it has any data.
	if err := host.Write(ctx, machine.File{Name: manifest("redis-2"), Mode: 0o600, Content: []byte("file appendonly.aof.1.base.rdb seq 1 type b\n")}); err != nil {
		t.Fatal(err)
	}
	if args := start(); !slices.Equal(args, notPromoted) {
		t.Errorf("when its first copy was broken off it starts with %v", args)
	}

	// The supervisor that comes next has to find that out for itself.
	later := supervisorOfCluster(t, c)
	later.dir, later.hosts = s.dir, s.hosts
	replica.Do("CONFIG", "SET", "appendonly", "yes")
	replica.Do("CONFIG", "SET", "replica-priority", "0")
	replica.Do("REPLICAOF", "127.0.0.1", "1") // nobody is there to copy from
	later.followFirstCopies(ctx)
	later.unsettled.Store(true)
	later.settleRedis(ctx)
	if !later.awaitsFirstCopy("redis-2") || priority() != "0" {
		t.Errorf("while it is not linked it has priority %s, awaits its copy: %t", priority(), later.awaitsFirstCopy("redis-2"))
	}

	replica.Do("REPLICAOF", "127.0.0.1", strings.TrimPrefix(c.Nodes[0].Addr, "127.0.0.1:"))
	redistest.Eventually(t, soon, "it has the copy, and may be promoted", func() bool {
		later.followFirstCopies(ctx)
		return priority() == "100" && !later.awaitsFirstCopy("redis-2")
	})
	if args := start(); len(args) > 0 {
		t.Errorf("with data it starts with %v", args)
	}
}
