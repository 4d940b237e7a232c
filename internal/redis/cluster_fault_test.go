package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/resp"
)

// counting is a load: each worker counts a key of its own up, and notes what
// was acknowledged.
type counting struct {
	client *Client
	stop   context.CancelFunc
	all    sync.WaitGroup
	keys   []string
	acked  []atomic.Int64
	failed atomic.Int64
	// unsure counts requests whose outcome is unknown; slowest is the longest
	// answer of those workers, in nanoseconds.
	unsure  atomic.Int64
	slowest []atomic.Int64

	mu  sync.Mutex
	why []string
}

// count starts a worker for each key. With idempotent, each request has a key.
func count(t *testing.T, client *Client, keys []string, idempotent bool) *counting {
	ctx, cancel := context.WithCancel(t.Context())
	l := &counting{client: client, stop: cancel, keys: keys, acked: make([]atomic.Int64, len(keys)), slowest: make([]atomic.Int64, len(keys))}
	for i, key := range keys {
		l.all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r := &Request{Commands: []Command{{"INCR", key}}}
				if idempotent {
					r.IdempotencyKey = key + "/" + strconv.Itoa(n)
				}
				began := time.Now()
				err := client.Do(context.Background(), r)
				if err == nil {
					err = r.Results[0].Err
				}
				if took := int64(time.Since(began)); took > l.slowest[i].Load() {
					l.slowest[i].Store(took)
				}
				switch {
				case err == nil:
					l.acked[i].Add(1)
				case KindOf(err) == Unknown:
					l.unsure.Add(1)
				default:
					l.failed.Add(1)
				}
				if err != nil {
					l.mu.Lock()
					l.why = append(l.why, fmt.Sprintf("%s: %v", key, err))
					l.mu.Unlock()
				}
				clock.Sleep(ctx, 2*time.Millisecond)
			}
		})
	}
	return l
}

// end stops the load and holds what is stored against what was acknowledged.
func (l *counting) end(t *testing.T) (total int64) {
	t.Helper()
	l.stop()
	l.all.Wait()
	for i, key := range l.keys {
		acked := l.acked[i].Load()
		total += acked
		value, _, err := l.client.Get(t.Context(), key)
		n := resp.Int(string(value))
		if err != nil || n < acked || n > acked+l.unsure.Load() {
			t.Errorf("%s is %d (%v), acknowledged were %d, unknown of all %d", key, n, err, acked, l.unsure.Load())
		}
	}
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d requests failed: %.3000q", n, l.why)
	}
	return total
}

// keysAt returns n keys of the shard that has this master, and none of its neighbours'.
func keysAt(master *redistest.Server, n int) []string {
	var keys []string
	for i := 0; len(keys) < n; i++ {
		key := "key-" + strconv.Itoa(i)
		if !strings.HasPrefix(master.Do("EXISTS", key), "MOVED") {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestAShardsMasterDiesUnderLoad(t *testing.T) {
	loseMaster(t, func(c *redistest.Cluster) { c.Nodes[0].Kill() })
}

func TestAShardsMasterHandsOverUnderLoad(t *testing.T) {
	loseMaster(t, func(c *redistest.Cluster) {
		if answer := c.Nodes[3].Do("CLUSTER", "FAILOVER"); answer != "OK" {
			t.Fatalf("CLUSTER FAILOVER: %s", answer)
		}
	})
}

func TestAShardsMasterHangsUnderLoadAndComesBack(t *testing.T) {
	loseMaster(t, func(c *redistest.Cluster) {
		c.Nodes[0].Signal(syscall.SIGSTOP)
		t.Cleanup(func() { c.Nodes[0].Signal(syscall.SIGCONT) })
	})
}

// loseMaster has a shard fail over under load; lose takes its master away. One
// that only hung comes back, still thinking that it is the master.
func loseMaster(t *testing.T, lose func(*redistest.Cluster)) {
	cluster := redistest.StartCluster(t, 3, 2)
	client := openCluster(t, cluster, nil)
	for _, n := range cluster.Nodes[:3] { // every replica is in sync
		redistest.Eventually(t, 10*time.Second, "a write is acknowledged at "+n.Addr, func() bool {
			s := client.Status()
			return s.Replicas == 2 && client.Set(t.Context(), keysAt(n, 1)[0]+"-warm", nil, "") == nil
		})
	}
	victim := cluster.Nodes[0].Addr
	var keys []string
	for _, n := range cluster.Nodes[:3] {
		keys = append(keys, keysAt(n, 8)...)
	}
	load := count(t, client, keys, true)
	plain := count(t, client, withSuffix(keys, "{%s}plain"), false)
	time.Sleep(time.Second) // of load
	lose(cluster)
	began := time.Now()
	redistest.Eventually(t, 20*time.Second, "the shard has another master", func() bool {
		if s := client.Status(); !s.Found {
			t.Fatal("not ready during a failover")
		}
		m := client.Status().Master
		return m != "" && !slices.Contains(strings.Split(m, ","), victim)
	})
	t.Logf("another master after %v", time.Since(began))
	for i := range load.acked[:8] {
		before := load.acked[i].Load()
		redistest.Eventually(t, 10*time.Second, keys[i]+" is written again", func() bool { return load.acked[i].Load() > before })
	}
	cluster.Nodes[0].Signal(syscall.SIGCONT) // of no use to a dead one
	time.Sleep(time.Second)                  // of load, while it finds its place
	total := load.end(t) + plain.end(t)
	if n := load.unsure.Load(); n > 0 {
		t.Errorf("%d writes with a key are unknown: %.2000q", n, load.why)
	}
	slowest := func(l *counting, from, to int) (d time.Duration) {
		for i := from; i < to; i++ {
			d = max(d, time.Duration(l.slowest[i].Load()))
		}
		return
	}
	t.Logf("%d acknowledged, %d unknown without a key; the longest answer: %v of the shard, %v of others",
		total, plain.unsure.Load(), slowest(load, 0, 8), slowest(load, 8, 24))
	if d := slowest(load, 8, 24); d > time.Second {
		t.Errorf("another shard's answer took %v", d)
	}
	if total < 1000 {
		t.Errorf("only %d were acknowledged", total)
	}
}

func withSuffix(keys []string, format string) []string {
	var out []string
	for _, k := range keys {
		out = append(out, fmt.Sprintf(format, k))
	}
	return out
}

// reshard moves a slot from one master to another, as redis-cli does.
func reshard(t *testing.T, cluster *redistest.Cluster, slot int, from, to *redistest.Server, pause func()) {
	t.Helper()
	id := strconv.Itoa(slot)
	fromID, toID := from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	must := func(n *redistest.Server, words ...string) {
		t.Helper()
		if answer := n.Do(words...); answer != "OK" && answer != "NOKEY" {
			t.Fatalf("%v: %s", words, answer)
		}
	}
	must(to, "CLUSTER", "SETSLOT", id, "IMPORTING", fromID)
	must(from, "CLUSTER", "SETSLOT", id, "MIGRATING", toID)
	pause()
	host, port, _ := strings.Cut(to.Addr, ":")
	for n := 0; ; n++ {
		keys := from.Do("CLUSTER", "GETKEYSINSLOT", id, "1")
		if keys == "" {
			break
		}
		must(from, "MIGRATE", host, port, keys, "0", "2000")
		if n%50 == 0 {
			pause() // with keys at both places
		}
	}
	must(to, "CLUSTER", "SETSLOT", id, "NODE", toID)
	must(from, "CLUSTER", "SETSLOT", id, "NODE", toID)
}

// A transaction whose keys are at two places waits for its slot. Others at the
// same master do not.
func TestATransactionThatWaitsForItsSlotHoldsNobodyUp(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	do(t, client, &Request{Commands: commands("SET warm up")})
	from, to := cluster.Nodes[0], cluster.Nodes[1]
	keys := keysAt(from, 2)
	one, other, beside := "{"+keys[0]+"}1", "{"+keys[0]+"}2", keys[1]
	do(t, client, &Request{Commands: commands("SET "+one+" 1", "SET "+other+" 1")})
	done := make(chan []string, 1)
	pauses := 0
	reshard(t, cluster, hashslot.Of(keys[0]), from, to, func() {
		if pauses++; pauses != 2 {
			return
		}
		go func() { done <- transact(t, client, "once", commands("INCR "+one, "INCR "+other)) }()
		const many = 100
		began := time.Now()
		for range many {
			do(t, client, &Request{Commands: commands("SET " + beside + " x")})
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > many*commit.RetryPause/2 {
			t.Errorf("%d writes beside it took %v", many, took)
		}
		if len(done) > 0 {
			t.Error("it did not have to wait")
		}
	})
	if got := <-done; !slices.Equal(got, []string{"2", "2"}) {
		t.Errorf("it answered %q", got)
	}
}

func TestSlotsMoveUnderLoad(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	client := openCluster(t, cluster, nil)
	redistest.Eventually(t, 10*time.Second, "every shard has a master and a replica", func() bool {
		s := client.Status()
		return s.Replicas == 1 && s.Master != ""
	})
	from, to := cluster.Nodes[0], cluster.Nodes[1]
	keys := keysAt(from, 4)
	more := withSuffix(keys, "{%s}plain")
	load, plain := count(t, client, keys, true), count(t, client, more, false)
	fresh := make(chan struct{})
	stop := make(chan struct{})
	go func() { // keys that are new, in order, in a transaction, and read again
		defer close(fresh)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			key := fmt.Sprintf("{%s}new-%d", keys[i%len(keys)], i)
			r := &Request{Commands: []Command{{"SET", key, "1"}, {"INCR", key}, {"GET", key}}, Atomic: i%3 == 1}
			if i%3 == 2 {
				r.Commands = append(r.Commands, Command{"GET", keys[(i+1)%len(keys)]}, Command{"DEL", key})
			}
			if err := client.Do(context.Background(), r); err != nil {
				t.Errorf("%v: %v", r.Commands, err)
			} else if r.Results[2].Err != nil || r.Results[2].Reply.Text() != "2" {
				t.Errorf("%v: %q %v", r.Commands, r.Results[2].Reply.Text(), r.Results[2].Err)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	for i := range keys {
		redistest.Eventually(t, 10*time.Second, keys[i]+" is counted up", func() bool { return load.acked[i].Load() > 20 && plain.acked[i].Load() > 20 })
	}
	for _, key := range keys {
		reshard(t, cluster, hashslot.Of(key), from, to, func() { time.Sleep(10 * time.Millisecond) })
	}
	for i := range keys {
		before := load.acked[i].Load()
		redistest.Eventually(t, 10*time.Second, keys[i]+" is written at the new place", func() bool { return load.acked[i].Load() > before })
	}
	redistest.Eventually(t, 30*time.Second, "500 are acknowledged", func() bool {
		var n int64
		for i := range keys {
			n += int64(load.acked[i].Load()) + int64(plain.acked[i].Load())
		}
		return n >= 500
	})
	close(stop)
	<-fresh
	total := load.end(t) + plain.end(t)
	if n := load.unsure.Load() + plain.unsure.Load(); n > 0 {
		t.Errorf("%d are unknown: %.1000q %.1000q", n, load.why, plain.why)
	}
	for _, key := range keys {
		if answer := to.Do("EXISTS", key); answer != "1" {
			t.Errorf("%s at the new place: %s", key, answer)
		}
	}
	var d time.Duration
	for i := range keys {
		d = max(d, time.Duration(load.slowest[i].Load()))
	}
	t.Logf("%d acknowledged, the longest answer took %v", total, d)
}

func TestAReplicaInAClusterHangsAndWritesGoOn(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 2)
	// The other nodes need two to three seconds to hold the replica for down, and more
	// on a busy machine.
	const hold = 8 * time.Second
	client := openCluster(t, cluster, func(c *Config) { c.Hold = hold })
	redistest.Eventually(t, 10*time.Second, "every shard has a master and its replicas", func() bool {
		s := client.Status()
		return s.Replicas == 2 && s.Master != ""
	})
	load := count(t, client, keysAt(cluster.Nodes[0], 4), true)
	redistest.Eventually(t, 10*time.Second, "there is load", func() bool { return load.acked[0].Load() > 20 })
	hung := cluster.Nodes[3]
	hung.Signal(syscall.SIGSTOP)
	defer hung.Signal(syscall.SIGCONT)
	before := load.acked[0].Load()
	redistest.Eventually(t, hold, "writes are acknowledged without the replica", func() bool { return load.acked[0].Load() > before+20 })
	load.end(t)
	if n := load.unsure.Load(); n > 0 {
		t.Errorf("%d are unknown: %.1000q", n, load.why)
	}
}
