package redis

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/redistest"
)

// attempt is a plain SET with a balancer's key. An earlier version carries it out without
// Attempt, by a record with a time to live.
func attempt(name, key, value string) *Request {
	return &Request{Commands: []Command{{"SET", key, value}}, IdempotencyKey: "\n" + name, Attempt: true}
}

func earlier(r *Request) *Request {
	r.Attempt = false
	return r
}

// inRecords asks a node something about the database of the records.
func inRecords(n *redistest.Server, script string, args ...string) string {
	return n.Do(append([]string{"EVAL", "redis.call('SELECT', 15) " + script, "0"}, args...)...)
}

// lifeOf is the rest of the life of a request's record, in milliseconds; -1: it has no
// end by itself, and -2: there is none.
func lifeOf(n *redistest.Server, r *Request) string {
	return inRecords(n, "return redis.call('PTTL', ARGV[1])", once.Record("", r))
}

// recordsAt is how many keys of ours a node has, but for those of the proofs.
func recordsAt(n *redistest.Server) string {
	return inRecords(n, "return redis.call('DBSIZE') - redis.call('EXISTS', ARGV[1])", once.Prefix+"fence")
}

func TestAPlainSetThroughABalancerHappensOnce(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	master := cluster.Nodes[0]
	for i, step := range []struct {
		r    *Request
		want string
	}{
		{attempt("a", "k", "first"), "first"},
		{attempt("b", "k", "second"), "second"},
		{attempt("a", "k", "first"), "second"}, // a repetition changes nothing
		{attempt("a", "k", "third"), "third"},  // another value is another write
		{attempt("b", "k", "second"), "third"},
		{earlier(attempt("c", "k", "fourth")), "fourth"}, // by a node of an earlier version
		{attempt("d", "k", "fifth"), "fifth"},
		{attempt("c", "k", "fourth"), "fifth"},
		{earlier(attempt("d", "k", "fifth")), "fifth"}, // and repeated by one
		{attempt("e", "k", ""), ""},
		{earlier(attempt("d", "k", "fifth")), ""},
		{attempt("flushed", "k", "sixth"), "sixth"},
	} {
		if step.r.IdempotencyKey == "\nflushed" {
			master.Do("SCRIPT", "FLUSH")
		}
		if got := do(t, client, step.r); !slices.Equal(got, []string{"OK"}) {
			t.Errorf("step %d: the answer is %q", i, got)
		}
		for _, n := range cluster.Nodes {
			if got := n.Do("GET", "k"); got != step.want {
				t.Errorf("step %d: it is %q, want %q", i, got, step.want)
			}
		}
	}
	if got := lifeOf(master, attempt("flushed", "k", "sixth")); got != "-1" {
		t.Errorf("the record made last has %s ms to live: it was not made by one command for all", got)
	}
}

// oneBatch has requests go to the master as one batch.
func oneBatch(t *testing.T, client *Client, master *redistest.Server, requests []*Request) {
	t.Helper()
	master.Signal(syscall.SIGSTOP)
	var all sync.WaitGroup
	all.Go(func() { do(t, client, &Request{Commands: commands("SET first batch")}) })
	time.Sleep(20 * time.Millisecond) // it is under way
	for _, r := range requests {
		all.Go(func() {
			if err := client.Do(t.Context(), r); err != nil {
				t.Errorf("%v: %v", r.Commands, err)
			}
		})
	}
	redistest.Eventually(t, 5*time.Second, "they wait for the next batch", func() bool { return client.Status().Held == len(requests) })
	master.Signal(syscall.SIGCONT)
	all.Wait()
}

// A batch in which some were carried out before has the others carried out, once each.
func TestABatchOfSetsThatAreRepeatedAndOfNewOnes(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	master := cluster.Nodes[0]
	do(t, client, attempt("old", "old", "1"))
	do(t, client, earlier(attempt("older", "older", "1")))
	do(t, client, &Request{Commands: commands("MSET old 2 older 2")})

	batch := func(repeated bool) (all []*Request) {
		for i := range 2 * 128 {
			name := fmt.Sprintf("new-%t-%d", repeated, i)
			all = append(all, attempt(name, name, "1"))
		}
		twice := fmt.Sprintf("twice-%t", repeated)
		all = append(all, attempt(twice, twice, "1"), attempt(twice, twice, "1"), &Request{Commands: commands("INCR n"), IdempotencyKey: twice, Attempt: true})
		if repeated {
			all = append(all, attempt("old", "old", "1"), attempt("older", "older", "1"))
		}
		return all
	}
	for _, repeated := range []bool{false, true} {
		requests := batch(repeated)
		oneBatch(t, client, master, requests)
		for _, r := range requests {
			want := "OK"
			if r.Commands[0][0] == "INCR" {
				want = map[bool]string{false: "1", true: "2"}[repeated]
			}
			if r.Results == nil || r.Results[0].Err != nil || word(&r.Results[0].Reply) != want {
				t.Errorf("%v: %+v, want %s", r.Commands, r.Results, want)
			}
			if key := r.Commands[0][1]; want == "OK" && !strings.HasPrefix(key, "old") && master.Do("GET", key) != "1" {
				t.Errorf("%s was not set", key)
			}
		}
	}
	if got := master.Do("MGET", "old", "older"); strings.Contains(got, "1") {
		t.Errorf("what was carried out before was carried out again: %q", got)
	}
}

// The balancer may send a request to another node while the first one still has it.
func TestTwoNodesWithTheSameSetAtOnceSetItOnce(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	master := cluster.Nodes[0]
	var clients [2]*Client
	for i := range clients {
		clients[i] = open(t, cluster, func(c *Config) { c.MinAcks = 0 })
		do(t, clients[i], &Request{Commands: commands("SET warm up")})
	}
	sets := setEvents(t, master)
	const rounds = 100
	for n := range rounds {
		var both sync.WaitGroup
		for i, c := range clients {
			both.Go(func() {
				r := attempt(strconv.Itoa(n), fmt.Sprintf("k%d", n), "v")
				if n%3 == i { // one of the two is of an earlier version
					earlier(r)
				}
				do(t, c, r)
			})
		}
		both.Wait()
	}
	do(t, clients[0], &Request{Commands: commands("SET last one")})
	seen := sets("last")
	for n := range rounds {
		if key := fmt.Sprintf("k%d", n); seen[key] != 1 {
			t.Errorf("%s was set %d times", key, seen[key])
		}
	}
}

// setEvents listens to which keys are set. What it returns counts them, up to that key.
func setEvents(t *testing.T, n *redistest.Server) func(last string) map[string]int {
	t.Helper()
	n.Do("CONFIG", "SET", "notify-keyspace-events", "E$")
	conn, err := net.Dial("tcp", n.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "AUTH %s %s\r\nSUBSCRIBE __keyevent@0__:set\r\n", redistest.Username, redistest.Password)
	var text strings.Builder
	buffer := make([]byte, 1<<16)
	until := func(end string) {
		for !strings.Contains(text.String(), end) {
			read, err := conn.Read(buffer)
			if err != nil {
				t.Fatalf("%v after %q", err, text.String())
			}
			text.Write(buffer[:read])
		}
	}
	until(":1\r\n")
	return func(last string) map[string]int {
		until("\r\n" + last + "\r\n")
		seen := map[string]int{}
		for line := range strings.SplitSeq(text.String(), "\r\n") {
			seen[line]++
		}
		return seen
	}
}

// The records are replicated with what was set, and no clock ends them.
func TestASetIsNotRepeatedAtANextMasterWhateverItsClock(t *testing.T) {
	for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			cluster, client := skewed(t, nil)
			cluster.Nodes[1].SetClock(t, by)
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() { do(t, client, attempt(strconv.Itoa(i), fmt.Sprintf("k%d", i), "old")) })
			}
			all.Wait()
			promoted := promote(t, cluster)
			for i := range 200 {
				key := fmt.Sprintf("k%d", i)
				do(t, promoted, &Request{Commands: []Command{{"SET", key, "new"}}})
				do(t, promoted, attempt(strconv.Itoa(i), key, "old"))
				if got := cluster.Nodes[1].Do("GET", key); got != "new" {
					t.Fatalf("%s is %q: it was set again", key, got)
				}
			}
		})
	}
}

// What a refused SET had for a record is gone, so that the balancer's next attempt is
// carried out, and it does not keep the others from what they ask for.
func TestARefusedSetLeavesNoRecord(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	do(t, client, &Request{Commands: commands("SET warm up")})
	for what, c := range map[string]struct {
		begin, end []string
		refused    string
	}{
		"memory is full":       {[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, "OOM"},
		"some keys are denied": {[]string{"ACL", "SETUSER", redistest.Username, "resetkeys", "~other*", "~?holdfast*", "~allowed*"}, []string{"ACL", "SETUSER", redistest.Username, "allkeys"}, "NOPERM"},
		"MSET is denied":       {[]string{"ACL", "SETUSER", redistest.Username, "-mset"}, []string{"ACL", "SETUSER", redistest.Username, "+@all"}, ""},
		"MSETNX is denied":     {[]string{"ACL", "SETUSER", redistest.Username, "-msetnx"}, []string{"ACL", "SETUSER", redistest.Username, "+@all"}, ""},
		"RPUSH is denied":      {[]string{"ACL", "SETUSER", redistest.Username, "-rpush"}, []string{"ACL", "SETUSER", redistest.Username, "+@all"}, ""},
		"SADD is denied":       {[]string{"ACL", "SETUSER", redistest.Username, "-sadd"}, []string{"ACL", "SETUSER", redistest.Username, "+@all"}, ""},
		"TIME is denied":       {[]string{"ACL", "SETUSER", redistest.Username, "-time"}, []string{"ACL", "SETUSER", redistest.Username, "+@all"}, ""},
		"a list is no list":    {[]string{"EVAL", "redis.call('SELECT', 15) for i = 0, 31 do redis.call('SET', ARGV[1] .. 'made30000:' .. i, '') end return 'OK'", "0", once.Prefix}, []string{"EVAL", "redis.call('SELECT', 15) for i = 0, 31 do redis.call('DEL', ARGV[1] .. 'made30000:' .. i) end return 'OK'", "0", once.Prefix}, ""},
	} {
		if got := master.Do(c.begin...); got != "OK" {
			t.Fatalf("%s: %s", what, got)
		}
		requests := []*Request{attempt(what, "denied", what), attempt(what, "other", what), attempt(what, "allowed", what)}
		allAtOnce(t, client, requests)
		for _, r := range requests {
			key := r.Commands[0][1]
			denied := c.refused != "" && (key == "denied" || c.refused == "OOM")
			err := r.Results[0].Err
			switch {
			case denied && (err == nil || !strings.HasPrefix(Words(err), c.refused) || KindOf(err) != Refused):
				t.Errorf("%s: the answer for %s is %v", what, key, err)
			case !denied && err != nil:
				t.Errorf("%s: %s: %v", what, key, err)
			}
		}
		if got := master.Do(c.end...); got != "OK" {
			t.Fatalf("%s: %s", what, got)
		}
		for _, r := range requests {
			key := r.Commands[0][1]
			done := master.Do("GET", key) == what
			if denied := r.Results[0].Err != nil; done == denied {
				t.Errorf("%s: %s was carried out: %t, and refused: %t", what, key, done, denied)
			}
			master.Do("SET", key, "since")
			again := attempt(what, key, what)
			do(t, client, again)
			if repeated := master.Do("GET", key) == what; repeated == done {
				t.Errorf("%s: %s was carried out: %t, and again: %t", what, key, done, repeated)
			}
		}
	}
}

// allAtOnce carries requests out together. None is to have an error as a whole.
func allAtOnce(t *testing.T, client *Client, requests []*Request) {
	t.Helper()
	var all sync.WaitGroup
	for _, r := range requests {
		all.Go(func() {
			if err := client.Do(t.Context(), r); err != nil {
				t.Errorf("%v: %v", r.Commands, err)
			}
		})
	}
	all.Wait()
}

// A record stays for as long as one with a time to live does, and then goes, whoever has
// made it.
func TestTheRecordsOfSetsAreRemovedInTimeByWhoeverIsThere(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	short := func(c *Config) { c.IdempotencyTTL = life }
	open(t, cluster, short)
	staying := open(t, cluster, short)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	leaving := openFor(t, ctx, cluster, short)

	made := map[string]time.Time{}
	requests := map[string]*Request{}
	for i := range 60 {
		client := staying
		if i%2 == 0 && i < 40 {
			client = leaving
		}
		if i == 40 {
			leave()
		}
		name := strconv.Itoa(i)
		requests[name] = attempt(name, "k"+name, "v")
		made[name] = time.Now() // not later than it is
		do(t, client, requests[name])
		if i%10 == 9 { // a repetition does not keep the others from their end
			do(t, client, attempt(name, "k"+name, "v"))
		}
		time.Sleep(life / 50)
	}
	deadline := time.Now().Add(10 * life)
	for len(made) > 0 && time.Now().Before(deadline) {
		for name := range maps.Clone(made) {
			asked := time.Now()
			if lifeOf(master, requests[name]) != "-2" {
				continue
			}
			if lived := asked.Sub(made[name]); lived < life {
				t.Errorf("the record of %s was gone after %v", name, lived)
			}
			delete(made, name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(made) > 0 {
		t.Errorf("%d records stay", len(made))
	}
	redistest.Eventually(t, 3*life, "nothing is left, at the replica either", func() bool {
		return recordsAt(master) == "0" && recordsAt(cluster.Nodes[1]) == "0"
	})
}

// Nodes that hold requests for different times may share a Redis: the record of one that may
// still be repeated outlives the others' records.
func TestARecordLivesAsLongAsItsOwnNodeSays(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	master := cluster.Nodes[0]
	with := func(life time.Duration) *Client {
		return open(t, cluster, func(c *Config) { c.MinAcks, c.IdempotencyTTL = 0, life })
	}
	short, long := with(time.Second), with(20*time.Second)
	do(t, long, attempt("long", "k", "1"))
	do(t, short, attempt("short", "k", "2"))
	redistest.Eventually(t, 15*time.Second, "the short one's record is gone", func() bool { return lifeOf(master, attempt("short", "k", "2")) == "-2" })
	do(t, short, attempt("long", "k", "1")) // sent again, to another node
	if got := master.Do("GET", "k"); got != "2" {
		t.Errorf("it is %q: what was carried out before was carried out again", got)
	}
	redistest.Eventually(t, time.Minute, "all is gone", func() bool { return recordsAt(master) == "0" })
}

// One list that is none keeps the records of the others from nothing.
func TestRecordsAreRemovedBesideWhatIsNoList(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, func(c *Config) { c.MinAcks, c.IdempotencyTTL = 0, time.Second })
	do(t, client, attempt("a", "k", "1"))
	inRecords(master, "return redis.call('SADD', ARGV[1] .. 'lives', '5', 'no number')", once.Prefix)
	for _, name := range []string{"5:0", "1000:5", "no number:1"} {
		inRecords(master, "return redis.call('SET', ARGV[1] .. 'made' .. ARGV[2], '', 'NX')", once.Prefix, name)
	}
	redistest.Eventually(t, 15*time.Second, "the record is gone", func() bool { return lifeOf(master, attempt("a", "k", "1")) == "-2" })
}
