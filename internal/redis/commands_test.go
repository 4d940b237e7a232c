package redis

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

func specOf(t *testing.T, client *Client, words string) *Spec {
	t.Helper()
	s, err := client.Spec(t.Context(), strings.Fields(words))
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return s
}

func TestRedisItselfSaysWhatItsCommandsAre(t *testing.T) {
	client := open(t, redistest.Start(t, 0, 0), func(c *Config) { c.MinAcks = 0 })
	is := func(which string, of func(*Spec) bool, yes, no string) {
		t.Helper()
		for _, list := range []struct {
			names string
			want  bool
		}{{yes, true}, {no, false}} {
			for name := range strings.SplitSeq(list.names, ",") {
				name = strings.TrimSpace(name)
				s := specOf(t, client, name)
				if s == nil {
					t.Errorf("%s: unknown", name)
				} else if of(s) != list.want {
					t.Errorf("%s is %s: %v", name, which, !list.want)
				}
			}
		}
	}
	is("a write", func(s *Spec) bool { return s.Write },
		"set, SET x 1, getex, eval, evalsha, fcall, publish, spublish, script load, script flush, function load, xgroup create, flushall, pexpire, config set, debug, migrate, copy, sort, client kill, select, memory purge",
		"get, MGET, eval_ro, evalsha_ro, fcall_ro, ping, time, info, pfcount, xrange, sort_ro, object encoding, memory usage, memory help, pubsub channels, config get, client list, client id, command, wait")
	is("read-only", func(s *Spec) bool { return s.ReadOnly },
		"get, hgetall, keys, scan, eval_ro, fcall_ro, object freq, xinfo stream, memory usage, dbsize",
		"ping, set, eval, publish, config get")
	is("in the data", func(s *Spec) bool { return s.Replicated },
		"get, mget, hgetall, ttl, pttl, exists, type, keys, dbsize, srandmember, sort_ro, xrange, xread, xpending, xinfo groups, dump",
		"randomkey, scan, HSCAN, sscan, zscan, eval_ro, evalsha_ro, fcall_ro, script exists, pubsub channels, pubsub numsub, pubsub numpat, pubsub shardnumsub, "+
			"info, role, lastsave, time, ping, wait, client list, latency latest, slowlog get, memory usage, memory stats, object freq, object encoding, "+
			"touch, xinfo consumers, command, config get, function list, acl whoami, cluster nodes, set")
	is("blocking", func(s *Spec) bool { return s.BlockingFor(Command{s.Name}) },
		"blpop, BRPOP, blmove, bzpopmin, bzmpop, wait", "lpop, xadd, xread, xreadgroup")
	is("stateful", func(s *Spec) bool { return s.Stateful },
		"select, auth, hello, multi, exec, discard, watch, unwatch, subscribe, psubscribe, ssubscribe, unsubscribe, punsubscribe, sunsubscribe, client tracking, client setname, client reply, client caching, client no-evict, quit, reset, monitor, sync, psync, readonly, readwrite, asking, replconf, script debug",
		"get, set, publish, pubsub channels, client id, client list, ping, script load, eval")
	is("dangerous", func(s *Spec) bool { return s.Dangerous }, "flushall, keys, config set, CONFIG Get x, debug, sort", "get, client id, scan")
	is("of the administration", func(s *Spec) bool { return s.Admin }, "config set, shutdown, acl setuser, client pause", "flushall, keys, client id, acl whoami")
	is("barred from scripts", func(s *Spec) bool { return s.NoScript }, "subscribe, eval, config get", "get, set, publish")
	is("about keys that it does not name", func(s *Spec) bool { return s.AnyKey }, "keys, scan, flushall, randomkey, dbsize, eval, fcall_ro, evalsha", "get, del, ping, exists")

	if s := specOf(t, client, "NoSuchCommand x"); s != nil {
		t.Errorf("an unknown command: %+v", s)
	}
	if s := specOf(t, client, "Config Set maxmemory 1"); s.Name != "config|set" || s.Arity != -4 {
		t.Errorf("CONFIG SET is %q of arity %d", s.Name, s.Arity)
	}
	if s := specOf(t, client, "config nonsense"); s.Name != "config" || !s.Write {
		t.Errorf("an unknown subcommand: %+v", s)
	}
	if s := specOf(t, client, "zadd"); !s.In("sortedset") || s.In("string") {
		t.Errorf("ZADD is of the categories %v", s.Categories)
	}
	for words, want := range map[string]bool{
		"xread block 0 streams s $":                        true,
		"XREAD COUNT 1 BLOCK 10 STREAMS s 0":               true,
		"xread count 1 streams block 0":                    false,
		"xreadgroup group block streams streams s >":       false,
		"xreadgroup GROUP g c COUNT 1 Block 1 STREAMS s >": true,
		"xreadgroup group":                                 false,
		"blpop k 1":                                        true,
		"get block":                                        false,
	} {
		if got := specOf(t, client, words).BlockingFor(strings.Fields(words)); got != want {
			t.Errorf("%s blocks: %v", words, got)
		}
	}
}

// Keys are compared with what COMMAND GETKEYS answers, in any order.
func TestTheKeysOfACommandAreThoseThatRedisFinds(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	for line := range strings.Lines(`get a
		SET a v EX 10
		mget a b c
		mset a 1 b 2 c 3
		msetnx a 1 b 2
		del a b
		unlink a b c
		exists a b
		getdel a
		rename a b
		copy a b
		append a v
		bitop and d a b c
		bitfield a get u8 0
		hset h f v g w
		hmget h f g
		lpush l a b
		lmove a b left right
		blmove a b left right 0
		rpoplpush a b
		blpop a b c 0
		brpop a 1
		lmpop 2 a b left count 2
		blmpop 0 2 a b left
		sadd s a b
		smove a b m
		sinter a b c
		sinterstore d a b
		sintercard 2 a b limit 3
		zadd z 1 a
		zunion 2 a b weights 1 2
		zunionstore d 2 a b aggregate max
		zinterstore d 3 a b c
		zdiffstore d 1 a
		zinter 2 a b withscores
		zintercard 2 a b
		zdiff 1 a
		zrangestore d a 0 -1
		zmpop 2 a b min
		bzmpop 0 1 a max
		bzpopmin a b 0
		geoadd g 1 2 m
		geosearch g frommember m byradius 1 m
		geosearchstore d g frommember m byradius 1 m
		georadius g 1 2 3 m
		georadius g 1 2 3 m store d
		georadiusbymember g m 3 m storedist d
		xadd s * f v
		xread streams a b 0 0
		xread count 2 block 0 streams a 0
		xread count 2 streams streams streams 0 0
		xreadgroup group g c count 1 streams a b > >
		xgroup create s g $
		xinfo stream s
		xack s g 1-1
		pfadd p a
		pfcount a b
		pfmerge d a b
		object encoding a
		memory usage a
		touch a b
		dump a
		restore a 0 v
		eval return 2 a b c
		evalsha abc 1 a b
		eval_ro return 1 a
		fcall f 1 a x
		fcall_ro f 2 a b
		sunionstore d a b
		setrange a 0 v
		getset a v
		watch a b
		expire a 1
		type a
		sort_ro`) {
		cmd := Command(strings.Fields(line))
		if cmd[0] == "sort_ro" {
			continue
		}
		s := specOf(t, client, strings.TrimSpace(line))
		got, ok := s.Keys(cmd)
		if !ok {
			t.Errorf("%s: its keys are not told", strings.Join(cmd, " "))
			continue
		}
		want := strings.Fields(cluster.Nodes[0].Do(append([]string{"COMMAND", "GETKEYS"}, cmd...)...))
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: keys %v, Redis says %v", strings.Join(cmd, " "), got, want)
		}
	}
	for words, want := range map[string]string{
		"ping":                                "",
		"publish c m":                         "",
		"spublish c m":                        "", // a channel is no key
		"config get save":                     "",
		"eval return 0 x":                     "",
		"mset a 1 b":                          "a b", // the same
		"get":                                 "",
		"GEORADIUS g 1 2 3 m STORE a STORE b": "g a b",
	} {
		got, ok := specOf(t, client, words).Keys(strings.Fields(words))
		if !ok || strings.Join(got, " ") != want {
			t.Errorf("%s: keys %v, %v; want %q", words, got, ok, want)
		}
	}
	for _, words := range []string{
		"sort a by w_* get k_*", "sort_ro a", "migrate h 1 k 0 1", "eval return +1 a", "eval return x a", "zunion -1 a", "zunion 5", "lmpop 99999999999999999999 a left",
	} {
		if got, ok := specOf(t, client, words).Keys(strings.Fields(words)); ok {
			t.Errorf("%s: the keys are said to be %v", words, got)
		}
	}
}

func TestLookingACommandUpAllocatesNothing(t *testing.T) {
	client := open(t, redistest.Start(t, 0, 0), func(c *Config) { c.MinAcks = 0 })
	cmds := []Command{{"GET", "k"}, {"zrevrangebyscore", "k"}, {"Client", "NO-EVICT", "on"}}
	specOf(t, client, "get")
	if n := testing.AllocsPerRun(100, func() {
		for _, cmd := range cmds {
			if s, err := client.Spec(t.Context(), cmd); s == nil || err != nil {
				t.Fatal(cmd, err)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAUserWhoMayNotAskForTheCommandsIsToldSo(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	cluster.Nodes[0].Do("ACL", "SETUSER", redistest.Username, "-command")
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	_, err := client.Spec(t.Context(), Command{"get"})
	if KindOf(err) != Refused || !strings.HasPrefix(Words(err), "NOPERM") || !strings.Contains(err.Error(), "may not run COMMAND") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutAMasterNoCommandIsJudged(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	cluster.Nodes[0].Kill()
	client := open(t, cluster, func(c *Config) { c.Hold = 200 * time.Millisecond })
	if _, err := client.Spec(t.Context(), Command{"get"}); KindOf(err) != NotExecuted {
		t.Errorf("got %v", err)
	}
}
