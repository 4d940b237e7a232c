package supervise

import (
	"path"
	"slices"
	"strconv"
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

	for i := range 20 {
		c.Nodes[0].Do("SET", "k"+strconv.Itoa(i), "v")
	}
	// The supervisor that comes next has to find that out for itself.
	later := supervisorOfCluster(t, c)
	later.dir, later.hosts = s.dir, s.hosts
	replica.Do("CONFIG", "SET", "appendonly", "yes")
	replica.Do("CONFIG", "SET", "replica-priority", "0")
	replica.Do("REPLICAOF", "127.0.0.1", "1") // nobody is there to copy from
	later.unsettled.Store(true)
	later.settleRedis(ctx)
	later.followFirstCopy(ctx, "redis-2")
	if later.hasFirstCopy(ctx, "redis-2") || later.mayPromote(ctx, "redis-2") || priority() != "0" {
		t.Errorf("while it is not in step it has priority %s", priority())
	}

	// It has the copy in its memory, and not on its disk: Redis does not write the append-only file anew
	// while a snapshot is made.
	follow := func() { replica.Do("REPLICAOF", "127.0.0.1", strings.TrimPrefix(c.Nodes[0].Addr, "127.0.0.1:")) }
	replica.Do("CONFIG", "SET", "rdb-key-save-delay", "200000")
	follow()
	redistest.Eventually(t, soon, "it may be promoted", func() bool {
		later.followFirstCopy(ctx, "redis-2")
		return priority() == "100" && later.mayPromote(ctx, "redis-2")
	})
	if awaits, err := host.awaitsFirstCopy(ctx, "redis-2"); !awaits || err != nil {
		t.Errorf("before its append-only file is written: %t, %v", awaits, err)
	}
	replica.Do("REPLICAOF", "127.0.0.1", "1") // the master is gone: the copy is there all the same
	later.followFirstCopy(ctx, "redis-2")
	if priority() != "100" {
		t.Errorf("when the master is gone it has priority %s", priority())
	}
	replica.Do("CONFIG", "SET", "rdb-key-save-delay", "0")
	redistest.Eventually(t, soon, "its append-only file is written", func() bool {
		later.followFirstCopy(ctx, "redis-2")
		return later.hasFirstCopy(ctx, "redis-2")
	})
	if awaits, err := host.awaitsFirstCopy(ctx, "redis-2"); awaits || err != nil {
		t.Errorf("when its append-only file is written: %t, %v", awaits, err)
	}
	if args := start(); len(args) > 0 {
		t.Errorf("with data it starts with %v", args)
	}
}
