package redis

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// filled is a server with keys of 1,000 elements and a string of 10,000 bytes.
func filled(t *testing.T) (*redistest.Cluster, *Client) {
	t.Helper()
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: []Command{{"EVAL", `
for i = 1, 1000 do
  redis.call('SADD', 'set', i) redis.call('HSET', 'hash', i, i) redis.call('ZADD', 'zset', i, i) redis.call('RPUSH', 'list', i)
  redis.call('XADD', 'stream', '*', 'f', i) redis.call('GEOADD', 'geo', 0, i / 100, i) redis.call('ZADD', 'lex', 0, 1000 + i)
end
redis.call('SADD', 'few', 1, 2) redis.call('SETRANGE', 'string', 9999, 'x')
return 1`, "0"}}})
	return cluster, client
}

// costOf is what a command is estimated to take, apart from its words and from how
// many bytes its keys have.
func costOf(t *testing.T, cluster *redistest.Cluster, client *Client, cmd Command) float64 {
	t.Helper()
	spec, err := client.Spec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	e := spec.estimateOf(cmd)
	var sizes []float64
	for _, ask := range e.asks {
		size := number64(cluster.Nodes[0].Do(ask...))
		if ask[0] == "MEMORY" {
			size = 0
		}
		sizes = append(sizes, size)
	}
	return e.nanoseconds(sizes) - perCommand - perWord*float64(len(cmd))
}

func TestWhatACommandTakesFollowsFromItsWordsAndTheSizesOfItsKeys(t *testing.T) {
	cluster, client := filled(t)
	for line, want := range map[string]float64{
		"HGETALL hash": 1000 * perField, "HKEYS hash": 1000 * perField, "HVALS none": 0, "SMEMBERS set": 1000 * perMember, "SMEMBERS hash": 0,
		"LRANGE list 0 -1": 1000 * perListed, "LRANGE list 10 19": 10 * perListed, "LRANGE list -500 -1": 500 * perListed, "LRANGE list 990 5000": 10 * perListed,
		"LRANGE list 5000 6000": 0, "LINSERT list BEFORE 999 x": 1000 * perPassed, "LREM list 0 x": 1000 * perPassed, "LPOS list x": 1000 * perPassed,
		"SORT list": 1000 * perSorted, "SORT set ALPHA": 1000 * perCompared, "SORT zset BY w_* GET a GET b": 1000 * (perCompared + 2*perSorted/3 + 5*perBuilt), "SORT_RO list LIMIT 0 1": 1000 * perSorted,
		"SUNION set few": 1002 * perUnion, "SINTER set few": 2 * 2 * perInter, "SINTERCARD 2 set few": 2 * 2 * perInter, "SDIFF few set": 2 * 2 * perDiff, "SDIFF set few": 1002 * perDiff,
		"SUNIONSTORE set few few": 4 * perUnion, "ZUNIONSTORE d 2 zset set": 2000 * perZUnion, "ZUNION 1 zset": 1000 * perZUnion, "ZINTER 2 zset few": 4 * perZInter, "ZDIFFSTORE d 2 zset zset": 2000 * perZDiff,
		"ZRANGE zset 0 -1": 1000 * perRanged, "ZRANGE zset 100 300 REV": 201 * perRanged, "ZRANGE zset 1 10 BYSCORE": 10 * perRanged, "ZRANGE zset 10 1 BYSCORE REV": 10 * perRanged,
		"ZRANGEBYSCORE zset 0 inf": 1000 * perRanged, "ZRANGEBYSCORE zset (10 20": 10 * perRanged, "ZRANGEBYSCORE zset 0 inf LIMIT 100 5": 105 * perRanged, "ZREVRANGEBYSCORE zset 20 11": 10 * perRanged,
		"ZRANGEBYLEX lex - +": 1000 * perRanged, "ZRANGEBYLEX lex [1001 [1005": 5 * perRanged, "ZREVRANGEBYLEX lex + - LIMIT 0 -1": 1000 * perRanged,
		"ZRANGESTORE d zset 0 -1": 1000 * perStored, "ZREMRANGEBYRANK zset 0 9": 10 * perRemoved, "ZREMRANGEBYSCORE zset -inf inf": 1000 * perRemoved,
		"XRANGE stream - +": 1000 * perEntry, "XRANGE stream - + COUNT 7": 7 * perEntry, "XREVRANGE stream + -": 1000 * perEntry, "XTRIM stream MAXLEN 1": 1000 * perPassed,
		"XREAD STREAMS stream 0": 1000 * perEntry, "XREAD STREAMS stream $": 0, "XREAD COUNT 3 STREAMS stream 0": 3 * perEntry, "XREAD STREAMS streams stream 0 0": 1000 * perEntry,
		"XREADGROUP GROUP count 5 STREAMS stream >": 1000 * perEntry, "XAUTOCLAIM stream g c 0 0 COUNT 50": 50 * perClaimed, "XPENDING stream g": 0, "XPENDING stream g - + 70": 140 * perEntry, "XPENDING stream g IDLE 5 - + 70 c": 140 * perEntry, "XINFO STREAM stream FULL COUNT 0": 1000 * perEntry, "XINFO STREAM stream FULL": 0,
		"GEOSEARCH geo FROMLONLAT 0 0 BYRADIUS 1 m": 1000 * perPlace, "GEOSEARCHSTORE d geo FROMLONLAT 0 0 BYRADIUS 1 m": 1000 * (perPlace + perStored), "GEORADIUS geo 0 0 1 m STORE d": 1000 * (perPlace + perStored),
		"SRANDMEMBER set 5": 15 * perRandom, "SRANDMEMBER set -1000000": 1e6 * perRandom, "HRANDFIELD hash 5000": 1000 * perRandom, "HRANDFIELD hash": 0, "ZRANDMEMBER zset -7 WITHSCORES": 7 * perRandom,
		"SPOP set 5000": 1000 * perRemoved, "LPOP list 200": 200 * perRemoved, "ZPOPMIN zset 101": 101 * perRemoved,
		"BITCOUNT string": 10000 * perByte, "BITCOUNT string 0 9": 10 * perByte, "BITPOS string 1 100 -1": 9900 * perByte, "BITOP AND d string string": 20000, "BITOP AND d string none none": 30000,
		"GETRANGE string 0 -1": 10000 * perByte, "SETRANGE string 20000 xx": 10002 * perZeroed, "SETRANGE string 5 x": 0, "SETBIT string 800000 1": 90000 * perZeroed,
		"BITFIELD string GET u8 0": 0, "BITFIELD string SET u8 #100000 1": 790000 * perZeroed, "LCS string string": 1e8 * perCell,
		"COPY set d": 1000 * perCopied, "DUMP hash": 1000 * perCopied, "DUMP string": 10000 * perByte, "MEMORY USAGE hash SAMPLES 0": 1000 * perCopied, "MEMORY USAGE hash": 0, "MEMORY USAGE hash SAMPLES 9": 9 * perCopied,
		"KEYS *": 9 * perKey, "FLUSHALL SYNC": 9 * perKey, "FLUSHALL": 0, "SCAN 0 COUNT 10000": 10000 * perScanned, "SSCAN set 0": 10 * perScanned, "PFCOUNT a b c": 3 * perRegisters,
		"OBJECT ENCODING hash": 0, "HGETALL": 0, "SINTERCARD 9 set": 0,
	} {
		if got := costOf(t, cluster, client, strings.Fields(line)); got < 0.999*want || got > 1.001*want {
			t.Errorf("%s: %.0f ns, want %.0f", line, got, want)
		}
	}
}

// A command that Redis calls fast is not when a number among its words makes it long.
func TestFastCommandsWithLargeNumbersAreNotBrief(t *testing.T) {
	_, client := filled(t)
	many := strings.Repeat(" x", briefWords)
	for line, want := range map[string]bool{
		"SPOP set": true, "SPOP set 100": true, "SPOP set 101": false, "LPOP list 5": true, "RPOP list 1000000": false, "ZPOPMAX zset 1000": false,
		"SETBIT string 100 1": true, "SETBIT string 4294967295 1": false, "XAUTOCLAIM stream g c 0 0": true, "XAUTOCLAIM stream g c 0 0 COUNT 1000": false,
		"SADD set 1 2 3": true, "SADD set" + many: false, "MGET" + many: false, "MGET a b c": true, "MGET" + strings.Repeat(" x", 40): false, "HMGET hash" + strings.Repeat(" 1", 40): false,
		"XDEL stream 1 2": true, "XDEL stream" + many[:40]: false, "XCLAIM stream g c 0 1": true, "XCLAIM stream g c 0" + many[:40]: false, "DEL" + many: false,
	} {
		cmd := strings.Fields(line)
		spec, err := client.Spec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if got := spec.BriefFor(cmd); got != want {
			t.Errorf("%.40s is brief: %t", line, got)
		}
		if r := (&Request{Commands: []Command{cmd}}); spec.Swift && ForExpress(r, spec) && !want {
			t.Errorf("%.40s is one for a lane", line)
		}
	}
}

// What would take too long is refused before it is sent, with words that say what
// to do; the rest of a pipeline is carried out.
func TestWhatWouldTakeTooLongIsRefused(t *testing.T) {
	cluster, client := filled(t)
	for what, r := range map[string]*Request{
		"a command":                    {Commands: commands("HRANDFIELD hash -1000000")},
		"a command with a key":         {Commands: commands("SETRANGE new 400000000 x"), IdempotencyKey: "1"},
		"one in a pipeline":            {Commands: commands("LPUSH l a", "SRANDMEMBER set -1000000", "LPUSH l b", "HGETALL none")},
		"one in a pipeline with a key": {Commands: commands("LPUSH l a", "SETBIT new 4294967295 1", "LPUSH l b"), IdempotencyKey: "2"},
		"one that scripts cannot do":   {Commands: commands("SORT none", "LCS string string"), IdempotencyKey: "3"},
	} {
		if err := client.Do(t.Context(), r); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for i, result := range r.Results {
			words := Words(result.Err)
			long := strings.Contains("HRANDFIELD SETRANGE SRANDMEMBER SETBIT LCS", r.Commands[i][0])
			if long != strings.Contains(words, "would keep Redis from everybody else") || !long && result.Err != nil || long && !strings.Contains(words, "use ") {
				t.Errorf("%s: %v: %v", what, r.Commands[i], result.Err)
			}
		}
	}
	if got := cluster.Nodes[0].Do("LLEN", "l"); got != "4" {
		t.Errorf("the list has %s elements", got)
	}
	long := commands("SET whole 1")
	for range 2 * int(longestCommand/(1000*perStored)) {
		long = append(long, commands("ZRANGESTORE d zset 0 -1")...)
	}
	for _, cmds := range [][]Command{long, commands("EVAL return(1) 0", "EVAL return(2) 0", "EVAL return(3) 0")} {
		r := &Request{Commands: cmds, Atomic: true}
		if err := client.Do(t.Context(), r); KindOf(err) != Refused || !strings.Contains(Words(err), "the transaction would keep Redis") {
			t.Errorf("a transaction of %v…: %v", cmds[0], err)
		}
	}
	if got := cluster.Nodes[0].Do("EXISTS", "whole"); got != "0" {
		t.Error("a part of a transaction was carried out")
	}
	r := &Request{Commands: long}
	began := time.Now()
	for _, word := range do(t, client, r)[1:] {
		if word != "1000" {
			t.Fatalf("as a pipeline: %s", word)
		}
	}
	t.Logf("a pipeline of %d took %v", len(long), time.Since(began))
}
