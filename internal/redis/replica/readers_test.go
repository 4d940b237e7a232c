package replica

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/request"
)

// A replica that carries out a slow read gets no other one: the master has to answer it.
func TestAReplicaHasOneSlowReadAtATime(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 0)
	cfg := config.Config{Address: cluster.Nodes[0].Addr, Username: redistest.Username, Password: redistest.Password}.WithDefaults()
	monitor := discovery.New(cfg.MonitorConfig())
	c, m := New(cfg, monitor), operation.NewMaker(cfg, monitor, false)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { monitor.Run(ctx) })
	running.Go(func() { c.Run(ctx) })
	defer running.Wait()
	defer cancel()

	cluster.Nodes[0].Do("SET", "k", "v")
	reads := func(line string) bool {
		r := &request.Request{Commands: []command.Command{strings.Fields(line)}, Read: request.ReadReplica, MaxLag: time.Hour}
		o, err := m.Make(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Free()
		return c.Read(t.Context(), r, o)
	}
	const slow = "BITCOUNT k"
	for _, line := range []string{"GET k", slow} {
		redistest.Eventually(t, 10*time.Second, "a replica answers "+line, func() bool { return reads(line) })
	}
	for _, n := range cluster.Nodes[1:] {
		c.link(slowLink+n.Addr, n.Addr).slow.Store(true)
	}
	for range 4 {
		if reads(slow) {
			t.Fatal("a replica that is busy answered a slow read")
		}
	}
	redistest.Eventually(t, 10*time.Second, "a replica answers a brief read", func() bool { return reads("GET k") })
}
