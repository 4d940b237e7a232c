package redis

import (
	"context"
	"fmt"
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
	"holdfast/internal/redis/resp"
)

// do carries commands out and words each result: its text or number, nil,
// [elements], or !error.
func do(t *testing.T, c *Client, r *Request) []string {
	t.Helper()
	if err := c.Do(t.Context(), r); err != nil {
		t.Fatalf("%v: %v", r.Commands, err)
	}
	out := make([]string, 0, len(r.Results))
	for _, result := range r.Results {
		if result.Err != nil {
			// Redis adds what to do about it, Valkey does not.
			out = append(out, strings.TrimSuffix("!"+Words(result.Err), " Please use EVAL."))
		} else {
			out = append(out, word(&result.Reply))
		}
	}
	return out
}

func word(r *resp.Reply) string {
	switch r.Type() {
	case resp.Null:
		return "nil"
	case resp.Integer:
		return strconv.FormatInt(r.Int(), 10)
	case resp.Array:
		var all []string
		for i := range r.Len() {
			e := r.At(i)
			all = append(all, word(&e))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	return r.Text()
}

func commands(lines ...string) []Command {
	out := make([]Command, 0, len(lines))
	for _, l := range lines {
		out = append(out, strings.Fields(l))
	}
	return out
}

func TestCommandsOfEveryKindAreAnsweredInOrder(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET warm up")}) // the replica is there
	lines := []string{
		"SET k 1", "INCR k", "GET k", "INCR", "LPUSH k x", "NOSUCH a", "HSET h f v g w", "HGETALL h", "GET none", "ZADD z 1.5 m",
		"ZSCORE z m", "EVAL return{1,'a',false,{2}} 0", "TYPE h", "MSET a 1 b 2", "MGET a b c", "PUBLISH ch hello", "EVALSHA 0000 0",
	}
	want := []string{
		"OK", "2", "2", "!ERR wrong number of arguments for 'incr' command",
		"!WRONGTYPE Operation against a key holding the wrong kind of value",
		"!ERR unknown command 'NOSUCH', with args beginning with: 'a' ", "2", "[f v g w]", "nil", "1",
		"1.5", "[1 a nil [2]]", "hash", "OK", "[1 2 nil]", "0", noScript,
	}
	for _, idempotencyKey := range []string{"", "once", "once"} { // the last one is a repetition of the one before
		if idempotencyKey == "" {
			cluster.Nodes[0].Do("FLUSHALL")
		}
		got := do(t, client, &Request{Commands: commands(lines...), IdempotencyKey: idempotencyKey})
		if idempotencyKey == "" {
			cluster.Nodes[0].Do("FLUSHALL")
		}
		for i := range lines {
			if got[i] != want[i] {
				t.Errorf("%s with key %q: %q, want %q", lines[i], idempotencyKey, got[i], want[i])
			}
		}
	}
}

func TestARepetitionGetsTheFirstAnswerAndChangesNothing(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	reverse := NewScript("redis.call('SET', KEYS[1], string.reverse(ARGV[1])) return {redis.call('GET', KEYS[1]), 7}")
	big := make(Command, 2*once.MaxScriptArgs+1)
	for i := range big {
		big[i] = strconv.Itoa(i)
	}
	big[0] = "MSET"
	for name, r := range map[string]Request{
		"counter":     {Commands: commands("INCRBY c 5")},
		"big counter": {Commands: commands("INCRBY big 9007199254740993")},
		"big in hash": {Commands: commands("HINCRBY bigs f 9007199254740993")},
		"list":        {Commands: commands("RPUSH l a b")},
		"popped":      {Commands: commands("SADD s one", "SPOP s", "SPOP s")},
		"transaction": {Commands: commands("INCR tx", "GET tx", "LPUSH tx x", "INCR tx"), Atomic: true},
		"user script": {Commands: commands("EVAL return{redis.call('INCR',KEYS[1]),'done'} 1 ev", "INCR ev")},
		"own script":  {Script: reverse, Keys: []string{"rev"}, Args: []string{"abc"}},
		"many":        {Commands: []Command{big}},
	} {
		r.IdempotencyKey = name
		first := do(t, client, &r)
		before := cluster.Nodes[0].Do("DEBUG", "DIGEST")
		for range 2 {
			if again := do(t, client, &r); !slices.Equal(again, first) {
				t.Errorf("%s: first %q, then %q", name, first, again)
			}
		}
		if after := cluster.Nodes[0].Do("DEBUG", "DIGEST"); after != before && name != "x" {
			// The digest does not know of times to live.
			t.Errorf("%s: a repetition changed the data", name)
		}
	}
	if got := cluster.Nodes[0].Do("GET", "big"); got != "9007199254740993" {
		t.Errorf("the big counter is %s", got)
	}
	if got := do(t, client, &Request{Commands: commands("DBSIZE")}); got[0] == "0" || strings.Contains(cluster.Nodes[0].Do("INFO", "keyspace"), "db0:keys=0") {
		t.Errorf("%s keys", got[0])
	}
	if keys := cluster.Nodes[0].Do("KEYS", "*holdfast*"); keys != "" {
		t.Errorf("records stand among the data: %q", keys)
	}
}

func TestATransactionIsCarriedOutWholeOrNotAtAll(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	for _, idempotencyKey := range []string{"", "once"} {
		cluster.Nodes[0].Do("FLUSHALL")
		if got := do(t, client, &Request{Atomic: true, Commands: commands("SET t 1", "LPUSH t x", "INCR t"), IdempotencyKey: idempotencyKey}); got[0] != "OK" || !strings.HasPrefix(got[1], "!WRONGTYPE") || got[2] != "2" {
			t.Errorf("with an error at run time: %q", got)
		}
		r := &Request{Atomic: true, Commands: commands("SET t 9", "INCR"), IdempotencyKey: idempotencyKey}
		err := client.Do(t.Context(), r)
		if KindOf(err) != Refused || !strings.Contains(err.Error(), "wrong number of arguments") {
			t.Errorf("with a command that cannot be: %v", err)
		}
		if got := cluster.Nodes[0].Do("GET", "t"); got != "2" {
			t.Errorf("a discarded transaction left %q", got)
		}
	}
	err := client.Do(t.Context(), &Request{Atomic: true, Commands: commands("SET a 1", "MULTI")})
	if KindOf(err) != Invalid {
		t.Errorf("MULTI inside: %v, want invalid", err)
	}
}

// Every answer has to reach the one who asked: counters that many increment
// at once answer each number once.
func TestManyAtOnceGetTheirOwnAnswers(t *testing.T) {
	cluster := redistest.Start(t, 2, 0)
	client := open(t, cluster, nil)
	const callers, rounds = 64, 50
	var all sync.WaitGroup
	seen := make([][]int64, callers)
	for c := range callers {
		all.Go(func() {
			for i := range rounds {
				mine := fmt.Sprintf("%d-%d", c, i)
				r := &Request{Commands: []Command{{"SET", "k" + mine, mine}, {"INCR", "n"}, {"GET", "k" + mine}}}
				if i%3 == 0 {
					r.IdempotencyKey = mine
				}
				if i%7 == 0 {
					r.Atomic = true
				}
				if err := client.Do(t.Context(), r); err != nil {
					t.Error(err)
					return
				}
				seen[c] = append(seen[c], r.Results[1].Reply.Int())
				if got := r.Results[2].Reply.Text(); got != mine {
					t.Errorf("wrote %q, read %q", mine, got)
				}
				r = &Request{Commands: []Command{{"GET", "k" + mine}}}
				if err := client.Do(t.Context(), r); err != nil || r.Results[0].Reply.Text() != mine {
					t.Errorf("wrote %q, read %q, %v", mine, r.Results[0].Reply.Text(), err)
				}
			}
		})
	}
	all.Wait()
	numbers := slices.Concat(seen...)
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != int64(i)+1 {
			t.Fatalf("the %d. answer is %d", i+1, n)
		}
	}
}

// A value that no replica has is lost with its master: nobody may have seen it.
func TestNobodyReadsWhatNoReplicaHas(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	redistest.Eventually(t, 10*time.Second, "the replica is in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("old"), "") == nil && client.Status().InSync == 1
	})
	cluster.Sentinels[0].Kill()
	cluster.Sentinels[1].Kill()
	cluster.Nodes[1].Signal(syscall.SIGSTOP)
	defer cluster.Nodes[1].Signal(syscall.SIGCONT)
	cluster.Nodes[0].Do("SET", "k", "new") // by somebody else, on another connection
	if got, _, err := client.Get(t.Context(), "k"); KindOf(err) != NotExecuted {
		t.Errorf("the replica is silent and most Sentinels too: %q, %v; want not executed", got, err)
	}
	cluster.Nodes[1].Signal(syscall.SIGCONT)
	redistest.Eventually(t, 10*time.Second, "the replica is back", func() bool {
		got, _, err := client.Get(t.Context(), "k")
		return err == nil && string(got) == "new"
	})
}

func TestReadsGoOnWithoutAnyReplica(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = 5 * time.Second })
	redistest.Eventually(t, 5*time.Second, "a write is acknowledged", func() bool { return client.Set(t.Context(), "k", []byte("v"), "") == nil })
	for _, lose := range []func(){
		func() { cluster.Nodes[1].Signal(syscall.SIGSTOP) }, // the master carries writes out
		cluster.Nodes[1].Kill,                               // and then it refuses them
	} {
		lose()
		var writes sync.WaitGroup
		writes.Go(func() {
			if err := client.Set(t.Context(), "k", []byte("w"), ""); err == nil {
				t.Error("a write was acknowledged without any replica")
			}
		})
		for range 20 {
			if got, _, err := client.Get(t.Context(), "k"); err != nil || len(got) != 1 {
				t.Errorf("%q, %v", got, err)
			}
		}
		writes.Wait()
	}
}

func TestAReplicaAnswersWhoAsksForIt(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 0)
	client := open(t, cluster, nil)
	write := &Request{Commands: commands("SET k v"), WantToken: true}
	do(t, client, write)
	nodes := map[string]bool{}
	redistest.Eventually(t, 10*time.Second, "both replicas answer", func() bool {
		r := &Request{Commands: commands("GET k", "STRLEN k"), Read: ReadReplica, After: write.Token}
		got := do(t, client, r)
		if got[0] != "v" || got[1] != "1" {
			t.Fatalf("read %q", got)
		}
		if r.From == ReadReplica {
			nodes[r.Node] = true
			if r.Lag <= 0 || r.Lag > time.Second {
				t.Errorf("the lag is told as %v", r.Lag)
			}
		}
		return nodes[cluster.Nodes[1].Addr] && nodes[cluster.Nodes[2].Addr]
	})
	r := &Request{Commands: commands("SET k w"), Read: ReadReplica}
	if do(t, client, r); r.From != ReadMaster {
		t.Error("a write went to a replica")
	}

	// What a replica does not have yet, the master answers.
	cluster.Nodes[0].Do("CONFIG", "SET", "min-replicas-to-write", "0")
	for _, n := range cluster.Nodes[1:] {
		n.Do("REPLICAOF", "127.0.0.1", "1") // leads nowhere: they stay as they are
	}
	async := &Request{Commands: commands("SET k newest"), Async: true, WantToken: true}
	do(t, client, async)
	r = &Request{Commands: commands("GET k"), Read: ReadReplica, After: async.Token}
	if got := do(t, client, r); got[0] != "newest" || r.From != ReadMaster {
		t.Errorf("after a write that no replica has: %q from %v", got, r.From)
	}
	redistest.Eventually(t, 10*time.Second, "no replica is fresh enough", func() bool {
		r := &Request{Commands: commands("GET k"), Read: ReadReplica}
		do(t, client, r)
		return r.From == ReadMaster
	})
}

func TestACachedValueFollowsItsChanges(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	read := func() (string, *Request) {
		r := &Request{Commands: commands("GET k"), Read: ReadCached}
		return do(t, client, r)[0], r
	}
	do(t, client, &Request{Commands: commands("SET warm up")}) // the replica is there
	if got, _ := read(); got != "nil" {
		t.Errorf("nothing is there: %q", got)
	}
	for i := range 20 {
		want := strconv.Itoa(i)
		if got := cluster.Nodes[0].Do("SET", "k", want); got != "OK" { // by somebody else
			t.Fatal(got)
		}
		redistest.Eventually(t, 5*time.Second, "the new value is read", func() bool { got, _ := read(); return got == want })
	}
	redistest.Eventually(t, 5*time.Second, "the cache answers", func() bool {
		_, r := read()
		return r.From == ReadCached && r.Node == ""
	})
	// A master that hangs invalidates nothing.
	cluster.Nodes[0].Signal(syscall.SIGSTOP)
	time.AfterFunc(3*time.Second, func() { cluster.Nodes[0].Signal(syscall.SIGCONT) })
	redistest.Eventually(t, 5*time.Second, "the cache is no longer trusted", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return client.Do(ctx, &Request{Commands: commands("GET k"), Read: ReadCached}) != nil
	})
	if _, _, ok := client.Cached([]byte("k"), time.Now()); ok {
		t.Error("a loop trusts it")
	}
	redistest.Eventually(t, 10*time.Second, "it goes on, for a loop too", func() bool {
		got, _ := read()
		text, _, ok := client.Cached([]byte("k"), time.Now())
		return got == "19" && ok && text == "19"
	})
}

func TestAnAsynchronousWriteWaitsForNoReplica(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	do(t, client, &Request{Commands: commands("SET k v")})
	cluster.Nodes[1].Signal(syscall.SIGSTOP)
	defer cluster.Nodes[1].Signal(syscall.SIGCONT)
	if got := do(t, client, &Request{Commands: commands("SET k w"), Async: true}); got[0] != "OK" {
		t.Errorf("asynchronous: %q", got)
	}
	if err := client.Do(t.Context(), &Request{Commands: commands("SET k x")}); KindOf(err) != Unknown {
		t.Errorf("in sync: %v, want unknown", err)
	}
}

func TestWhatIsOursIsNobodyElses(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	for _, cmd := range []Command{{"SET", command.ReservedPrefix + "x", "y"}, {"SUBSCRIBE", "x"}, {"SELECT", "1"}, {"MULTI"}, {""}, {}, {"PSUBSCRIBE", "*"}, {"sunsubscribe"}, {"Client", "Reply", "off"}} {
		if err := client.Do(t.Context(), &Request{Commands: []Command{cmd}}); KindOf(err) != Invalid {
			t.Errorf("%q: %v, want invalid", cmd, err)
		}
	}
}

// One that waited for data would hold up all the others on its connection.
func TestACommandThatWouldWaitAnswersAtOnce(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	for _, idempotencyKey := range []string{"", "once"} {
		began := time.Now()
		for line, want := range map[string]string{
			"BLPOP none 0": "nil", "XREAD BLOCK 0 STREAMS none $": "nil", "WAIT 5 0": "0", "BLMOVE none x LEFT LEFT 0": "nil",
		} {
			if got := do(t, client, &Request{Commands: commands(line), IdempotencyKey: idempotencyKey}); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q", line, got, want)
			}
		}
		do(t, client, &Request{Commands: commands("RPUSH l a")})
		if got := do(t, client, &Request{Commands: commands("BLPOP l 0"), IdempotencyKey: idempotencyKey}); len(got) != 1 || got[0] != "[l a]" {
			t.Errorf("with data: %q", got)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("they took %v", took)
		}
		cluster.Nodes[0].Do("FLUSHALL")
	}
}
