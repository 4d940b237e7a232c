package redis

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// inFlight is how many callers the parallel benchmarks have per processor.
const inFlight = 32

// BenchmarkSet acknowledges writes of 9 bytes on two replicas, one at a time
// and many at once: the difference is what the group commit is for.
func BenchmarkSet(b *testing.B) {
	value := []byte("imooc.com")
	set := func(b *testing.B, c *Client, key string) {
		if err := c.Set(context.Background(), key, value, ""); err != nil {
			b.Error(err)
		}
	}
	c := benchmarked(b)
	b.Run("alone", func(b *testing.B) {
		for range b.N {
			set(b, c, "key")
		}
	})
	b.Run("at-once", func(b *testing.B) {
		b.SetParallelism(inFlight)
		var callers atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			key := "key-" + strconv.FormatInt(callers.Add(1), 10)
			for pb.Next() {
				set(b, c, key)
			}
		})
	})
}

// BenchmarkGet reads a value of 9 bytes from the master.
func BenchmarkGet(b *testing.B) {
	c := benchmarked(b)
	if err := c.Set(context.Background(), "key", []byte("imooc.com"), ""); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	b.SetParallelism(inFlight)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, found, err := c.Get(context.Background(), "key"); err != nil || !found {
				b.Errorf("found: %v, error: %v", found, err)
			}
		}
	})
}

// benchmarked is a client of a master with two replicas and three Sentinels
// that has found its master.
func benchmarked(b *testing.B) *Client {
	cluster := redistest.Start(b, 2, 3)
	c, err := New(Config{
		Sentinels: cluster.SentinelAddrs(), MasterName: redistest.MasterName,
		Username: redistest.Username, Password: redistest.Password, MinAcks: 1,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
	})
	redistest.Eventually(b, 10*time.Second, "the master is found", func() bool { return c.Master() != "" })
	b.ResetTimer()
	return c
}
