package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/redistest"
)

// openCluster runs a client of a cluster that knows one of its nodes.
func openCluster(t *testing.T, c *redistest.Cluster, change func(*Config)) *Client {
	t.Helper()
	return open(t, c, func(cfg *Config) {
		cfg.Cluster, cfg.Address = []string{c.Nodes[0].Addr}, ""
		acks := cfg.MinAcks
		asScripts(cfg)
		cfg.MinAcks = acks
		if change != nil {
			change(cfg)
		}
	})
}

func TestACommandGoesToTheShardOfItsKeys(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	client := openCluster(t, cluster, nil)
	masters := func() (n []string) {
		for _, s := range cluster.Nodes[:3] {
			n = append(n, s.Addr)
		}
		slices.Sort(n)
		return
	}
	redistest.Eventually(t, 10*time.Second, "every shard has a master and a replica", func() bool {
		s := client.Status()
		return s.Replicas == 1 && s.Found && s.Master != ""
	})
	got := strings.Split(client.Status().Master, ",")
	slices.Sort(got)
	if !slices.Equal(got, masters()) {
		t.Errorf("masters are %q, want %q", got, masters())
	}
	lines := []string{
		"SET a 1", "SET b 2", "SET c 3", "SET d 4", "INCR a", "GET a", "GET b", "GET c", "MGET a b", "MSET {x}1 1 {x}2 2", "MGET {x}1 {x}2",
		"INCR", "NOSUCH a", "LPUSH a x", "PING", "EVAL return{redis.call('GET',KEYS[1]),'x'} 1 c", "EVAL return{1} 0", "PUBLISH ch x",
		"LPUSH l 3 1 2", "SORT l", "ECHO hi", "DBSIZE", "EXISTS {x}1 {x}2", "EVALSHA 0000 0", "SORT l STORE {l}2",
	}
	cross := "!CROSSSLOT Keys in request don't hash to the same slot"
	want := []string{
		"OK", "OK", "OK", "OK", "2", "2", "2", "3", cross, "OK", "[1 2]",
		"!ERR wrong number of arguments for 'incr' command", "!ERR unknown command 'NOSUCH', with args beginning with: 'a' ",
		"!WRONGTYPE Operation against a key holding the wrong kind of value", "PONG", "[3 x]", "[1]", "0",
		"3", "[1 2 3]", "hi", "7", "2", noScript, "3",
	}
	for _, idempotencyKey := range []string{"", "once", "once"} {
		got := do(t, client, &Request{Commands: commands(lines...), IdempotencyKey: idempotencyKey})
		if idempotencyKey == "" {
			for _, n := range cluster.Nodes[:3] {
				n.Do("FLUSHALL")
			}
		}
		for i := range lines {
			if lines[i] == "DBSIZE" {
				continue // a cluster has one database: proofs and records count
			}
			if got[i] != want[i] {
				t.Errorf("%s with key %q: %q, want %q", lines[i], idempotencyKey, got[i], want[i])
			}
		}
	}
}

// A pipeline of slow commands goes in slices, and is answered as one.
func TestASlowPipelineInAClusterIsAnsweredInOrder(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	const n = 3 * operation.SlowTogether
	for _, key := range []string{"", "once", "once"} {
		var cmds []Command
		for i := range n {
			name := strconv.Itoa(i%5) + key
			cmds = append(cmds, Command{"RPUSH", name, strconv.Itoa(i)}, Command{"LRANGE", name, "-1", "100"})
			if i%50 == 7 {
				cmds = append(cmds, commands("SETRANGE bits"+name+" 9999999 x", "BITCOUNT bits"+name, "EVAL return(1) 1 "+name)...)
			}
		}
		got := do(t, client, &Request{Commands: cmds, IdempotencyKey: key})
		for i, cmd := range cmds {
			want := ""
			switch cmd[0] {
			case "RPUSH":
				number, _ := strconv.Atoi(cmd[2])
				want = strconv.Itoa(number/5 + 1)
			case "BITCOUNT":
				want = "4"
			}
			if want != "" && got[i] != want {
				t.Fatalf("with the key %q: %v: %q, want %q", key, cmd, got[i], want)
			}
		}
	}
	var with []Command // also one that is for every master
	for range 10 {
		with = append(with, commands("SET a 1", "EVAL return(1) 1 b", "DBSIZE", "DEL a", "EXISTS a", "SET a 2", "GET a")...)
	}
	got := do(t, client, &Request{Commands: with})
	for i, word := range got {
		want := map[string]string{"DEL": "1", "EXISTS": "0", "GET": "2"}[with[i][0]]
		if want != "" && word != want || strings.HasPrefix(word, "!") {
			t.Errorf("%d: %v: %q", i, with[i], word)
		}
	}
}

func TestARepetitionInAClusterGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	client := openCluster(t, cluster, nil)
	own := NewScript("redis.call('SET', KEYS[1], string.reverse(ARGV[1])) return {redis.call('INCR', KEYS[2]), 7}")
	for name, r := range map[string]Request{
		"counters":    {Commands: commands("INCR a", "INCR b", "INCR c", "INCR d", "RPUSH e x")},
		"transaction": {Commands: commands("INCR {t}1", "RPUSH {t}2 x", "GET {t}1"), Atomic: true},
		"user script": {Commands: commands("EVAL return{redis.call('INCR',KEYS[1]),'done'} 1 ev", "INCR a")},
		"own script":  {Script: own, Keys: []string{"{o}1", "{o}2"}, Args: []string{"abc"}},
	} {
		r.IdempotencyKey = name
		first := do(t, client, &r)
		for range 3 {
			if again := do(t, client, &r); !slices.Equal(again, first) {
				t.Errorf("%s: first %q, then %q", name, first, again)
			}
		}
		r.IdempotencyKey = ""
		if again := do(t, client, &r); slices.Equal(again, first) {
			t.Errorf("%s without a key: %q again", name, again)
		}
	}
}

func TestACommandThatWouldWaitHappensOnceInAClusterToo(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	for _, list := range []string{"a", "b", "c", "{x}list"} { // in several slots
		do(t, client, &Request{Commands: commands("RPUSH " + list + " 1 2 3")})
		for _, line := range []string{"BLPOP " + list + " 0", "BLMOVE " + list + " " + list + " LEFT RIGHT 0"} {
			want := do(t, client, &Request{Commands: commands(line), IdempotencyKey: "once"})
			if strings.HasPrefix(want[0], "!") {
				t.Errorf("%s: %q", line, want)
			}
			if got := do(t, client, &Request{Commands: commands(line), IdempotencyKey: "once"}); !slices.Equal(got, want) {
				t.Errorf("%s, repeated: %q, want %q", line, got, want)
			}
		}
		if got := do(t, client, &Request{Commands: commands("LRANGE " + list + " 0 -1")}); got[0] != "[3 2]" {
			t.Errorf("%s holds %q, want [3 2]", list, got)
		}
	}
}

func TestWhatCrossesSlotsIsRefused(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	for name, r := range map[string]*Request{
		"transaction": {Commands: commands("SET a 1", "SET b 1"), Atomic: true},
		"script":      {Script: NewScript("return 1"), Keys: []string{"a", "b"}},
	} {
		err := client.Do(t.Context(), r)
		if KindOf(err) != Refused || !strings.HasPrefix(Words(err), "CROSSSLOT ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := do(t, client, &Request{Commands: commands("MGET a b c")}); got[0] != "[nil nil nil]" && !strings.HasPrefix(got[0], "!CROSSSLOT ") {
		t.Errorf("MGET of three slots: %q", got)
	}
}

func TestWhatIsAboutAllKeysIsAskedOfEveryMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) {
		c.MinAcks = 0
		c.Username, c.Password = "", "" // who may do anything
	})
	want := map[string]bool{}
	var sets []Command
	for i := range 300 {
		key := "key-" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
		want[key] = true
		sets = append(sets, Command{"SET", key, "v"})
	}
	do(t, client, &Request{Commands: sets})
	got := do(t, client, &Request{Commands: commands("DBSIZE", "SCRIPT LOAD return{7}", "RANDOMKEY", "KEYS key-*")})
	if n := len(strings.Fields(got[3])); n != len(want) || got[2] == "nil" {
		t.Errorf("KEYS: %d, RANDOMKEY: %s", n, got[2])
	}
	if got[0] != strconv.Itoa(len(want)) {
		t.Errorf("DBSIZE: %s of %d", got[0], len(want))
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		if got := do(t, client, &Request{Commands: commands("EVALSHA "+got[1]+" 1 "+key, "SCRIPT EXISTS "+got[1]+" 00")}); got[0] != "[7]" || got[1] != "[1 0]" {
			t.Errorf("the script at %s: %q", key, got)
		}
	}
	found, processes := map[string]bool{}, ""
	for cursor, n := "0", 0; n == 0 || cursor != "0"; n++ {
		r := &Request{Commands: commands("SCAN "+cursor+" MATCH key-* COUNT 20", "INFO server")}
		do(t, client, r)
		next, keys := r.Results[0].Reply.At(0), r.Results[0].Reply.At(1)
		_, info, ok := strings.Cut(r.Results[1].Reply.Text(), "\nrun_id:")
		if id, _, _ := strings.Cut(info, "\r\n"); !ok || processes != "" && id != processes {
			t.Errorf("run_id of all masters is %q, and was %q", id, processes)
		} else {
			processes = id
		}
		for i := range keys.Len() {
			key := keys.At(i)
			found[key.Text()] = true
		}
		if cursor = next.Text(); n > 300 {
			t.Fatal("SCAN does not end")
		}
	}
	if len(found) != len(want) {
		t.Errorf("SCAN found %d keys of %d", len(found), len(want))
	}
	do(t, client, &Request{Commands: commands("FLUSHALL")})
	if n := do(t, client, &Request{Commands: commands("DBSIZE")})[0]; n != "0" {
		t.Errorf("DBSIZE after FLUSHALL: %s", n)
	}
}

func TestMessagesAndChangesOfAWholeClusterAreHeard(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var heard, changed sync.Map
	listens := make(chan struct{}, 100)
	all.Go(func() {
		_ = client.Subscribe(ctx, false, []string{"news"}, func(m Message) {
			if m.Kind == "subscribe" {
				listens <- struct{}{}
			}
			heard.Store(m.Payload, true)
		})
	})
	missedCalls := make(chan struct{}, 100)
	all.Go(func() {
		_ = client.Changes(ctx, func(c Change) {
			if c.Missed {
				missedCalls <- struct{}{}
			}
			changed.Store(c.Key, true)
		})
	})
	<-listens
	<-missedCalls
	for _, n := range cluster.Nodes {
		n.Do("PUBLISH", "news", "of "+n.Addr)
		key := keysAt(n, 1)[0]
		redistest.Eventually(t, 5*time.Second, "news and changes of "+n.Addr, func() bool {
			// Again: that master may be the last one to be listened to.
			do(t, client, &Request{Commands: commands("SET "+key+" v", "PUBLISH news "+key)})
			_, a := heard.Load("of " + n.Addr)
			_, b := heard.Load(key)
			_, c := changed.Load(key)
			return a && b && c
		})
	}
	if err := client.Monitor(ctx, func(string) {}); KindOf(err) != Invalid {
		t.Errorf("MONITOR: %v", err)
	}
}

func TestAReplicaOfTheShardAnswersWhoAsksForOne(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	client := openCluster(t, cluster, nil)
	r := &Request{Commands: commands("SET a 1", "SET b 2", "SET c 3"), WantToken: true}
	redistest.Eventually(t, 10*time.Second, "a write is acknowledged", func() bool { return client.Do(t.Context(), r) == nil })
	var replicas []string
	for _, n := range cluster.Nodes[3:] {
		replicas = append(replicas, n.Addr)
	}
	redistest.Eventually(t, 10*time.Second, "a replica answers with what was written", func() bool {
		read := &Request{Commands: commands("GET a", "GET b", "GET c"), Read: ReadReplica, After: r.Token}
		if got := do(t, client, read); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Fatalf("read %q from %s", got, read.Node)
		}
		return read.From == ReadReplica && !slices.ContainsFunc(strings.Split(read.Node, ","), func(n string) bool { return !slices.Contains(replicas, n) })
	})
	cached := &Request{Commands: commands("GET a"), Read: ReadCached}
	if got := do(t, client, cached); got[0] != "1" || cached.From != ReadMaster {
		t.Errorf("cached: %q from %d", got, cached.From)
	}
}
