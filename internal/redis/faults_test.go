package redis

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// An error that a user's script words like one of Redis' own comes after the
// script has written: it is not to be sent again.
func TestAScriptsOwnErrorIsNotTakenForTheNodes(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	do(t, client, &Request{Commands: commands("SET warm up")})
	r := &Request{Commands: []Command{{"EVAL", "redis.call('INCR',KEYS[1]) return redis.error_reply('TRYAGAIN stock is being counted')", "1", "n"}}}
	err := client.Do(t.Context(), r)
	if n := cluster.Nodes[0].Do("GET", "n"); n != "1" {
		t.Errorf("one request, executed %s times; told: %v", n, err)
	}
}

// WAIT alone proves nothing for a read: it compares with what was confirmed
// before, and answers at once where nothing was written since.
func TestACutOffMasterAnswersNoReads(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = 3 * time.Second })
	if err := client.Set(t.Context(), "k", []byte("old"), ""); err != nil {
		t.Fatal(err)
	}
	// Where the offset has moved since the replicas told theirs, WAIT asks them: by a
	// sign of life of the master's, by a Sentinel's message, by a question of WAIT's.
	// So there is a proof, and then it is quiet until they have told.
	cluster.Nodes[0].Do("CONFIG", "SET", "repl-ping-replica-period", "3600")
	if _, n := reads(t, client, 200*time.Millisecond); n == 0 {
		t.Fatal("no read was answered")
	}
	for _, n := range cluster.Sentinels {
		n.Signal(syscall.SIGSTOP)
		defer n.Signal(syscall.SIGCONT)
	}
	time.Sleep(1200 * time.Millisecond)
	for _, n := range cluster.Nodes[1:] {
		n.Signal(syscall.SIGSTOP)
		defer n.Signal(syscall.SIGCONT)
	}
	began := time.Now()
	last := time.Duration(0)
	n := 0
	for time.Since(began) < 12*time.Second {
		at := time.Since(began)
		if _, _, err := client.Get(t.Context(), "k"); err == nil {
			last = at
			n++
		} else {
			t.Logf("after %v: %v", time.Since(began), err)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if last > 900*time.Millisecond {
		t.Errorf("%d reads answered for %v after everybody else was cut off", n, last)
	}
}

// A token taken from one replica's answer keeps an older one from answering.
func TestTheTokenOfAReplicasAnswerIsAsNewAsTheAnswer(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 0)
	client := open(t, cluster, func(c *Config) { c.MaxLag = 10 * time.Second })
	do(t, client, &Request{Commands: commands("SET k old")})
	time.Sleep(1500 * time.Millisecond)
	cluster.Nodes[2].Do("CLIENT", "PAUSE", "5000", "WRITE")
	time.Sleep(700 * time.Millisecond)
	cluster.Nodes[0].Do("SET", "k", "new")
	time.Sleep(20 * time.Millisecond)
	read := func(token string) *Request {
		r := &Request{Commands: commands("GET k"), Read: ReadReplica, After: token}
		if err := client.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	token := ""
	for deadline := time.Now().Add(3 * time.Second); token == ""; { // the pause is longer
		if time.Now().After(deadline) {
			t.Fatal("no replica answered with what is new")
		}
		if r := read(""); r.From == ReadReplica && word(&r.Results[0].Reply) == "new" {
			token = r.Token
		}
	}
	for range 8 {
		r := read(token)
		if word(&r.Results[0].Reply) == "old" {
			t.Fatalf("new, and then old from %s with the token of the answer before (%s)", r.Node, token)
		}
		if r.From == ReadReplica {
			token = r.Token
		}
	}
}

// Lua's numbers are exact up to 2^53.
func TestIntegersOf64BitsStayExact(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	want := "[9007199254740993]"
	if got := do(t, client, &Request{Commands: commands("BITFIELD b INCRBY i64 0 9007199254740993"), IdempotencyKey: "x"}); got[0] != want {
		t.Errorf("BITFIELD with a key: %s, want %s (Redis has %s)", got[0], want, cluster.Nodes[0].Do("BITFIELD", "b", "GET", "i64", "0"))
	}
}

// Without MULTI the commands are carried out one by one, and EXEC's refusal says
// nothing of them.
func TestATransactionWhoseMultiWasRefusedIsUnknown(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET warm up")})
	cluster.Nodes[0].Do("ACL", "SETUSER", redistest.Username, "-multi")
	r := &Request{Commands: commands("INCR m"), Atomic: true}
	err := client.Do(t.Context(), r)
	if got := cluster.Nodes[0].Do("GET", "m"); got != "1" {
		t.Fatalf("m is %q: the test wants it to have happened", got)
	}
	if KindOf(err) != Unknown {
		t.Errorf("%v, want unknown", err)
	}
}

// The client library's queue has no deadline once it is full.
func TestAHungReplicaHoldsNobodyUp(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, func(c *Config) { c.MaxLag = 10 * time.Second })
	do(t, client, &Request{Commands: commands("SET k v")})
	time.Sleep(1200 * time.Millisecond)
	r := &Request{Commands: commands("GET k"), Read: ReadReplica}
	if err := client.Do(context.Background(), r); err != nil || r.From != ReadReplica {
		t.Fatal(err, r.From)
	}
	cluster.Nodes[1].Signal(syscall.SIGSTOP)
	defer cluster.Nodes[1].Signal(syscall.SIGCONT)
	var wg sync.WaitGroup
	var mu sync.Mutex
	worst, failed := time.Duration(0), 0
	for range 1500 {
		wg.Go(func() {
			for range 2 {
				at := time.Now()
				err := client.Do(context.Background(), &Request{Commands: commands("GET k"), Read: ReadReplica})
				mu.Lock()
				worst = max(worst, time.Since(at))
				if err != nil {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("worst %v, %d failed", worst, failed)
	// The bound is 300 ms and the master's answer; without it they wait until the replica
	// goes on, which is never. What is between the two is the machine's.
	if worst > 20*time.Second {
		t.Errorf("a replica's read took %v", worst)
	}
}

// A master that takes no writes takes no proof either: its reads go on over the
// connection that they have.
func TestAMasterThatTakesNoWritesIsStillRead(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, nil)
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("v"), "") == nil && client.Status().InSync == 2
	})
	master := cluster.Node(client.Master())
	connections := func() string {
		for line := range strings.Lines(master.Do("INFO", "stats")) {
			if value, ok := strings.CutPrefix(line, "total_connections_received:"); ok {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	if answer := master.Do("CONFIG", "SET", "maxmemory", "1"); answer != "OK" {
		t.Fatal(answer)
	}
	if err := client.Set(t.Context(), "k", []byte("w"), ""); KindOf(err) != Refused {
		t.Fatalf("a write: %v, want refused", err)
	}
	before, _ := strconv.Atoi(connections())
	for range 50 {
		if got, _, err := client.Get(t.Context(), "k"); err != nil || string(got) != "v" {
			t.Fatalf("%q, %v", got, err)
		}
		time.Sleep(5 * time.Millisecond) // over the time of several proofs
	}
	if after, _ := strconv.Atoi(connections()); after > before+5 { // the test's own, and a Sentinel's
		t.Errorf("%d connections were made for 50 reads", after-before)
	}
}

// A replica that has a connection to its master and does not keep up answers as
// long as its data is no older than was asked for.
func TestAReplicaWhoseDataIsTooOldDoesNotAnswer(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	read := func() (string, *Request) {
		r := &Request{Commands: commands("GET k"), Read: ReadReplica}
		return do(t, client, r)[0], r
	}
	do(t, client, &Request{Commands: commands("SET k 0")})
	redistest.Eventually(t, 10*time.Second, "the replica answers", func() bool {
		got, r := read()
		return got == "0" && r.From == ReadReplica
	})
	cluster.Nodes[1].Do("CLIENT", "PAUSE", "10000", "WRITE") // it takes nothing from its master
	const allowed = time.Second
	began, n := time.Now(), 0
	for time.Since(began) < 2*allowed {
		n++
		do(t, client, &Request{Commands: commands("SET k " + strconv.Itoa(n)), Async: true})
		if got, r := read(); r.From == ReadReplica && time.Since(began) > allowed+200*time.Millisecond {
			t.Fatalf("after %v of writes that it does not have the replica answers %s, and the master has %d", time.Since(began), got, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// What Redis has carried out and not answered is not sent again, on whatever
// connection.
func TestAWriteWhoseAnswerIsCutOffIsSentOnce(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	addr := cutAfter(t, cluster.Nodes[0].Addr, "the-mark", func() {})
	client := open(t, cluster, func(c *Config) { c.Address, c.MinAcks, c.Hold = addr, 0, 2*time.Second })
	do(t, client, &Request{Commands: commands("SET warm up")})
	err := client.Do(t.Context(), &Request{Commands: commands("INCR the-mark")})
	if got := cluster.Nodes[0].Do("GET", "the-mark"); got != "1" || KindOf(err) != Unknown {
		t.Errorf("counted %s times, and its client is told %v; want once, and unknown", got, err)
	}
}
