package supervise

import (
	"path"
	"slices"
	"strings"
	"syscall"
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
	c.Nodes[0].Signal(syscall.SIGSTOP) // nobody is there to copy from
	replica.Restart(t)
	replica.Do("CONFIG", "SET", "appendonly", "yes")
	later.unsettled.Store(true)
	later.settleRedis(ctx)
	later.followFirstCopy(ctx, "redis-2")
	if may, err := later.mayPromote(ctx, "redis-2"); may || err != nil || priority() != "0" {
		t.Errorf("while it is not in step it has priority %s, may be promoted: %t, %v", priority(), may, err)
	}

	c.Nodes[0].Signal(syscall.SIGCONT)
	redistest.Eventually(t, soon, "it may be promoted", func() bool {
		later.followFirstCopy(ctx, "redis-2")
		may, err := later.mayPromote(ctx, "redis-2")
		return priority() == "100" && may && err == nil
	})
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
