package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/redistest"
)

// mostQueued is how many changes may wait for one listener (package pubsub).
const mostQueued = 10000

func TestEveryChangeOfAKeyIsHeard(t *testing.T) {
	client, node := single(t)
	changed := listenTo(t, client.Changes)
	changed.hears(t, Change{Missed: true})
	node.Do("SET", "set", "v")
	changed.hears(t, Change{Key: "set"})
	node.Do("MSET", "one\x00", "v", "two", "v")
	changed.hears(t, Change{Key: "one\x00"})
	changed.hears(t, Change{Key: "two"})
	node.Do("SET", "brief", "v", "PX", "5")
	redistest.Eventually(t, 10*time.Second, "its end is heard after its beginning", func() bool {
		n := 0
		for _, c := range changed.all() {
			if c.Key == "brief" {
				n++
			}
		}
		return n >= 2
	})
	node.Do("EVAL", "redis.call('DEL', 'set') redis.call('SET', KEYS[1], 'v')", "1", command.ReservedPrefix+"x")
	node.Do("SET", "last", "v")
	changed.hears(t, Change{Key: "last"})
	for _, c := range changed.all() {
		if strings.HasPrefix(c.Key, command.ReservedPrefix) {
			t.Errorf("%q is nobody's business", c.Key)
		}
	}
	before := len(changed.all())
	node.Do("FLUSHALL")
	redistest.Eventually(t, 5*time.Second, "FLUSHALL is heard", func() bool {
		heard := changed.all()
		return len(heard) > before && heard[len(heard)-1].Missed
	})
}

func TestListenersToChangesShareOneConnection(t *testing.T) {
	client, node := single(t)
	var all []*ear[Change]
	for range 50 {
		all = append(all, listenTo(t, client.Changes))
	}
	for _, e := range all {
		e.hears(t, Change{Missed: true})
	}
	if got := strings.Count(node.Do("CLIENT", "LIST"), "resp=3"); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
	node.Do("SET", "k", "v")
	for _, e := range all {
		e.hears(t, Change{Key: "k"})
		e.stop()
	}
	redistest.Eventually(t, 5*time.Second, "nothing is tracked any more", func() bool {
		return strings.Contains(node.Do("INFO", "clients"), "tracking_clients:0")
	})
}

func TestWhoIsTooSlowForTheChangesHearsThatSomeWereMissed(t *testing.T) {
	client, node := single(t)
	block := make(chan struct{})
	slow := listenTo(t, func(ctx context.Context, hear func(Change)) error {
		return client.Changes(ctx, func(c Change) {
			hear(c)
			if c.Key == "stop" {
				<-block
			}
		})
	})
	fast := listenTo(t, client.Changes)
	slow.hears(t, Change{Missed: true})
	fast.hears(t, Change{Missed: true})
	node.Do("SET", "stop", "v")
	slow.hears(t, Change{Key: "stop"})
	node.Do("EVAL", "for i = 1, "+strconv.Itoa(2*mostQueued)+" do redis.call('SET', 'k' .. i, 'v') end", "0")
	redistest.Eventually(t, 10*time.Second, "another one hears on", func() bool {
		node.Do("SET", "last", "v")
		return slices.Contains(fast.all(), Change{Key: "last"})
	})
	close(block)
	redistest.Eventually(t, 5*time.Second, "the slow one hears that it missed some", func() bool {
		lost := 0
		for _, c := range slow.all() {
			if c.Missed {
				lost++
			}
		}
		return lost == 2
	})
	node.Do("SET", "after", "v")
	slow.hears(t, Change{Key: "after"})
	if n := len(slow.all()); n > mostQueued {
		t.Errorf("%d changes waited for it", n)
	}
}
