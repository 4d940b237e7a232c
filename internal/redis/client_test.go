package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/redistest"
)

// open runs a client until the test ends.
func open(t *testing.T, c *redistest.Cluster, change func(*Config)) *Client {
	t.Helper()
	return openFor(t, t.Context(), c, change)
}

// openFor is open for a client that ends with a context.
func openFor(t *testing.T, ctx context.Context, c *redistest.Cluster, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Username: redistest.Username, Password: redistest.Password,
		MinAcks: 1, Hold: 15 * time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if len(c.Sentinels) > 0 {
		cfg.Sentinels, cfg.MasterName = c.SentinelAddrs(), redistest.MasterName
	} else {
		cfg.Address = c.Nodes[0].Addr
	}
	if change != nil {
		change(&cfg)
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("Run did not return within 10 s of its context's end")
		}
	})
	return client
}

func TestSetAndGetAnyBytes(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	if _, ok, err := client.Get(t.Context(), "nobody"); ok || err != nil {
		t.Fatalf("a missing key: %v, %v", ok, err)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, value := range map[string][]byte{
		"text": []byte("imooc.com"), "empty": {}, "binary\x00\r\n\xff": all, "big": bytes.Repeat(all, 4096),
	} {
		for _, idempotencyKey := range []string{"", "once"} {
			if err := client.Set(t.Context(), name, value, idempotencyKey); err != nil {
				t.Fatalf("set %q: %v", name, err)
			}
			got, ok, err := client.Get(t.Context(), name)
			if err != nil || !ok || !bytes.Equal(got, value) {
				t.Errorf("get %q: %d bytes, %v, %v; want %d bytes", name, len(got), ok, err, len(value))
			}
		}
	}
	if err := client.Set(t.Context(), command.ReservedPrefix+"x", nil, ""); KindOf(err) != Invalid {
		t.Errorf("a reserved key: %v", err)
	}
	cluster.Nodes[0].Do("LPUSH", "list", "x")
	if _, _, err := client.Get(t.Context(), "list"); KindOf(err) != Refused {
		t.Errorf("get of a list: %v", err)
	}
}

func TestRequestsWithoutRedisAreHeldAndThenNotExecuted(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	cluster.Nodes[0].Kill()
	client := open(t, cluster, func(c *Config) { c.MinAcks, c.Hold, c.MaxHeld = 0, 300*time.Millisecond, 2 })
	var all sync.WaitGroup
	kinds := make(chan Kind, 16)
	for range 4 {
		all.Go(func() { kinds <- KindOf(client.Set(t.Context(), "k", nil, "")) })
		all.Go(func() {
			_, _, err := client.Get(t.Context(), "k")
			kinds <- KindOf(err)
		})
	}
	all.Wait()
	close(kinds)
	count := map[Kind]int{}
	for k := range kinds {
		count[k]++
	}
	if count[NotExecuted] != 2 || count[Overloaded] != 6 {
		t.Errorf("2 of 8 reads and writes should be held, 6 turned away; got %v", count)
	}
	// Those that gave up make room again.
	if err := client.Set(t.Context(), "k", nil, ""); KindOf(err) != NotExecuted {
		t.Errorf("after that: %v", err)
	}
}

func TestAWrongPasswordIsNamed(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.Password = "wrong" })
	redistest.Eventually(t, 5*time.Second, "the status names the reason", func() bool {
		return strings.Contains(client.Status().Why, "WRONGPASS")
	})
}

// load sets keys at a pace from several callers and remembers what was
// acknowledged.
type load struct {
	mu      sync.Mutex
	acked   map[string]string
	kinds   map[Kind]int
	longest time.Duration
	stop    chan struct{}
	done    sync.WaitGroup
}

func startLoad(t *testing.T, client *Client, idempotent bool) *load {
	l := &load{acked: map[string]string{}, kinds: map[Kind]int{}, stop: make(chan struct{})}
	for caller := range 8 {
		l.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				case <-time.After(30 * time.Millisecond):
				}
				key, value, once := fmt.Sprintf("key-%d-%d", caller, i), fmt.Sprintf("value-%d", i), ""
				if idempotent {
					once = key
				}
				start := time.Now()
				err := client.Set(context.Background(), key, []byte(value), once)
				took := time.Since(start)
				l.mu.Lock()
				l.longest = max(l.longest, took)
				if err == nil {
					l.acked[key] = value
				} else {
					l.kinds[KindOf(err)]++
					if KindOf(err) != Unknown {
						t.Errorf("set: %v", err)
					}
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// finish ends the load and checks that no acknowledged write is missing.
func (l *load) finish(t *testing.T, client *Client) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	t.Logf("%d writes acknowledged, %d of unknown outcome, the longest took %v", len(l.acked), l.kinds[Unknown], l.longest)
	for key, want := range l.acked {
		got, ok, err := client.Get(context.Background(), key)
		if err != nil {
			t.Fatalf("get %s: %v", key, err)
		}
		if !ok || string(got) != want {
			t.Errorf("acknowledged write lost: %s is %q, %v; want %q", key, got, ok, want)
		}
	}
}

// more waits until the load has n further writes acknowledged.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	before := l.count()
	redistest.Eventually(t, 20*time.Second, fmt.Sprintf("%d more writes are acknowledged", n), func() bool { return l.count() >= before+n })
}

func TestFailoverLosesNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		idempotent bool
		fault      func(*redistest.Server)
		after      func(*redistest.Server)
	}{
		{"kill", false, (*redistest.Server).Kill, nil},
		{"kill with idempotency keys", true, (*redistest.Server).Kill, nil},
		{"pause", false,
			func(s *redistest.Server) { s.Signal(syscall.SIGSTOP) },
			func(s *redistest.Server) { s.Signal(syscall.SIGCONT) }},
		{"pause with idempotency keys", true,
			func(s *redistest.Server) { s.Signal(syscall.SIGSTOP) },
			func(s *redistest.Server) { s.Signal(syscall.SIGCONT) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.Start(t, 2, 3)
			client := open(t, cluster, nil)
			writes := startLoad(t, client, test.idempotent)
			writes.more(t, 50)
			redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool { return client.Status().InSync == 2 })
			old := client.Master()
			start := time.Now()
			test.fault(cluster.Node(old))
			redistest.Eventually(t, 20*time.Second, "another master is found", func() bool {
				m := client.Master()
				return m != "" && m != old
			})
			t.Logf("another master after %v", time.Since(start))
			writes.more(t, 50)
			if test.after != nil {
				test.after(cluster.Node(old))
				redistest.Eventually(t, 20*time.Second, "the old master follows", func() bool {
					return strings.HasPrefix(cluster.Node(old).Do("ROLE"), "slave")
				})
				writes.more(t, 50)
			}
			writes.finish(t, client)
			if test.idempotent && writes.kinds[Unknown] > 0 {
				t.Errorf("%d writes with an idempotency key have an unknown outcome", writes.kinds[Unknown])
			}
		})
	}
}

func TestOneReplicaMayDieOrHang(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, nil)
	writes := startLoad(t, client, false)
	writes.more(t, 30)
	cluster.Nodes[2].Signal(syscall.SIGSTOP)
	writes.more(t, 30)
	redistest.Eventually(t, 5*time.Second, "the paused replica is out of sync", func() bool { return client.Status().InSync == 1 })
	cluster.Nodes[2].Signal(syscall.SIGCONT)
	redistest.Eventually(t, 10*time.Second, "it is in sync again", func() bool { return client.Status().InSync == 2 })
	cluster.Nodes[1].Kill()
	writes.more(t, 30)
	if client.Master() != cluster.Nodes[0].Addr {
		t.Errorf("the master changed to %q", client.Master())
	}
	writes.finish(t, client)
	if writes.kinds[Unknown] > 0 {
		t.Errorf("%d writes have an unknown outcome", writes.kinds[Unknown])
	}
}

func TestNoReplicaNoAcknowledgement(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	if err := client.Set(t.Context(), "before", nil, ""); err != nil {
		t.Fatal(err)
	}
	cluster.Nodes[1].Signal(syscall.SIGSTOP)
	cluster.Nodes[2].Signal(syscall.SIGSTOP)
	// The master does not know it yet and executes: unknown.
	if err := client.Set(t.Context(), "hung", nil, ""); KindOf(err) != Unknown {
		t.Errorf("both replicas hang: %v, want unknown", err)
	}
	cluster.Nodes[1].Kill()
	cluster.Nodes[2].Kill()
	redistest.Eventually(t, 10*time.Second, "the master knows", func() bool {
		return strings.HasPrefix(cluster.Nodes[0].Do("SET", "x", "y"), "NOREPLICAS")
	})
	err := client.Set(t.Context(), "alone", nil, "")
	if KindOf(err) != NotExecuted || !strings.Contains(err.Error(), "NOREPLICAS") {
		t.Errorf("both replicas are dead: %v, want not executed", err)
	}
	if _, _, err := client.Get(t.Context(), "before"); err != nil {
		t.Errorf("reads go on: %v", err)
	}
}

func TestAllSentinelsMayDie(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, nil)
	writes := startLoad(t, client, false)
	writes.more(t, 20)
	for _, s := range cluster.Sentinels {
		s.Kill()
	}
	writes.more(t, 60)
	writes.finish(t, client)
	if writes.kinds[Unknown] > 0 {
		t.Errorf("%d writes have an unknown outcome", writes.kinds[Unknown])
	}
}

func TestAnIdempotencyKeyMakesAWriteHappenOnce(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	for _, step := range []struct{ value, key, want string }{
		{"first", "a", "first"},
		{"second", "b", "second"},
		{"first", "a", "second"}, // a repetition changes nothing
		{"third", "a", "third"},  // another value is another write
	} {
		if err := client.Set(t.Context(), "k", []byte(step.value), step.key); err != nil {
			t.Fatal(err)
		}
		got, _, err := client.Get(t.Context(), "k")
		if err != nil || string(got) != step.want {
			t.Errorf("after setting %q with key %q: %q, %v; want %q", step.value, step.key, got, err, step.want)
		}
	}
	cluster.Nodes[0].Do("SCRIPT", "FLUSH")
	if err := client.Set(t.Context(), "k", []byte("fourth"), "c"); err != nil {
		t.Errorf("after SCRIPT FLUSH: %v", err)
	}
	own := &Request{Script: NewScript("return redis.call('INCR', KEYS[1])"), Keys: []string{"counted"}, IdempotencyKey: "d"}
	for range 2 {
		if got := do(t, client, own); got[0] != "1" {
			t.Errorf("a script of ours counted to %s", got[0])
		}
	}
}

// The records are made by one call of a script for all of a batch.
func TestTheSameKeyTwiceInOneBatchCountsOnce(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET warm up")})
	count := func() string {
		return do(t, client, &Request{Commands: commands("INCR n"), IdempotencyKey: "once"})[0]
	}
	cluster.Nodes[0].Signal(syscall.SIGSTOP)
	var all sync.WaitGroup
	all.Go(func() { do(t, client, &Request{Commands: commands("SET first batch")}) })
	time.Sleep(20 * time.Millisecond) // it is under way
	answers := make([]string, 3)
	for i := range answers {
		all.Go(func() { answers[i] = count() })
	}
	redistest.Eventually(t, 5*time.Second, "they wait for the next batch", func() bool { return client.Status().Held == len(answers) })
	cluster.Nodes[0].Signal(syscall.SIGCONT)
	all.Wait()
	if got := cluster.Nodes[0].Do("GET", "n"); got != "1" || !slices.Equal(answers, []string{"1", "1", "1"}) {
		t.Errorf("the answers are %q, and it has counted to %s", answers, got)
	}
}

// A repetition gets the record a new time, so that the next one finds it, too.
func TestARepetitionIsRemembered(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks, c.RecordDB = 0, -1 })
	count := func() { do(t, client, &Request{Commands: commands("INCR n"), IdempotencyKey: "once"}) }
	count()
	record := once.Record("", &Request{Commands: commands("INCR n"), IdempotencyKey: "once"})
	cluster.Nodes[0].Do("PEXPIRE", record, "2000")
	count()
	if left, _ := strconv.Atoi(cluster.Nodes[0].Do("PTTL", record)); left < 20_000 {
		t.Errorf("the record is kept for another %d ms", left)
	}
}

// What no script of ours can carry out takes two trips, between which another
// attempt may come, through another web node.
func TestTwoAttemptsAtOnceOfAScriptCountOnce(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	var clients [2]*Client
	for i := range clients {
		clients[i] = open(t, cluster, func(c *Config) { c.MinAcks = 0 })
		do(t, clients[i], &Request{Commands: commands("SET warm up")})
	}
	const rounds = 100
	for n := range rounds {
		var both sync.WaitGroup
		for _, c := range clients {
			both.Go(func() {
				r := &Request{Commands: []Command{{"EVAL", "return redis.call('INCR', KEYS[1])", "1", "n"}}, IdempotencyKey: strconv.Itoa(n)}
				if err := c.Do(t.Context(), r); err != nil && KindOf(err) != Unknown {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
	if got := cluster.Nodes[0].Do("GET", "n"); got != strconv.Itoa(rounds) {
		t.Errorf("%d scripts, each sent through two nodes at once, counted to %s", rounds, got)
	}
}

// A repetition must not be acknowledged before its first attempt is on a
// replica: the record alone says that the master executed it, no more.
func TestARepetitionWaitsForTheFirstAttempt(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	if err := client.Set(t.Context(), "warm", nil, "w"); err != nil {
		t.Fatal(err)
	}
	cluster.Nodes[1].Signal(syscall.SIGSTOP)
	if err := client.Set(t.Context(), "k", []byte("v"), "once"); KindOf(err) != Unknown {
		t.Fatalf("the first attempt: %v, want unknown", err)
	}
	if got := cluster.Nodes[0].Do("GET", "k"); got != "v" {
		t.Fatalf("the master has %q, the test needs it to have executed the first attempt", got)
	}
	// A new client: a connection that has written nothing, so that only the
	// repetition's own write makes WAIT wait.
	other := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	if err := other.Set(t.Context(), "k", []byte("v"), "once"); err == nil {
		t.Fatal("a repetition was acknowledged while no replica had the write")
	} else if KindOf(err) != Unknown {
		t.Fatalf("the repetition: %v, want unknown", err)
	}
	cluster.Nodes[1].Signal(syscall.SIGCONT)
	redistest.Eventually(t, 10*time.Second, "the repetition is acknowledged", func() bool {
		return other.Set(t.Context(), "k", []byte("v"), "once") == nil
	})
	if got := cluster.Nodes[1].Do("GET", "k"); got != "v" {
		t.Errorf("acknowledged, but the replica has %q", got)
	}
}

func TestErrorsOfRedisAreTold(t *testing.T) {
	cause := errors.New("why")
	err := &Error{Kind: Unknown, Cause: cause}
	if !errors.Is(err, cause) || KindOf(fmt.Errorf("x: %w", err)) != Unknown || KindOf(cause) != 0 {
		t.Error("the kind or the cause is lost in wrapping")
	}
}
