package redis

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/command"
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
redis.call('XGROUP', 'CREATE', 'stream', 'g', '0') redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '300', 'STREAMS', 'stream', '>')
redis.call('SADD', 'few', 1, 2) redis.call('SETRANGE', 'string', 9999, 'x')
return 1`, "0"}}})
	return cluster, client
}

// costOf is what a command is estimated to take, apart from its words and from how
// many bytes its keys have.
func costOf(t *testing.T, client *Client, cmd Command) float64 {
	t.Helper()
	spec, err := client.Spec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	e := estimateOf(spec, cmd)
	for _, ask := range e.asks {
		r := &Request{Commands: []Command{ask}} // with the rights of a web node
		if err := client.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		size := 0.0
		if err := r.Results[0].Err; err == nil && (ask[0] != "EVAL" || ask[1] != bytesScript) {
			size = float64(r.Results[0].Reply.Int())
		} else if err != nil && strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%v: %v", ask, err)
		}
		e.sizes = append(e.sizes, size)
	}
	return e.nanoseconds(e.sizes, make([]float64, len(e.weighs()))) - perCommand - perWord*float64(len(cmd))
}

func TestWhatACommandTakesFollowsFromItsWordsAndTheSizesOfItsKeys(t *testing.T) {
	cluster, client := filled(t)
	nodes := command.Number(cluster.Nodes[0].Do("EVAL", nodesScript, "1", "stream"))
	entries := func(n, each float64) float64 { return n * (each + 2*perItem + nodes*4096*perCopy/1000) }
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
		"XRANGE stream - +": entries(1000, perEntry), "XRANGE stream - + COUNT 7": 7 * perEntry, "XREVRANGE stream + - COUNT 500": entries(500, perEntry), "XTRIM stream MAXLEN 1": 1000*perPassed + nodes*perNode,
		"XREAD STREAMS stream 0": entries(1000, perEntry), "XREAD STREAMS stream $": 0, "XREAD COUNT 3 STREAMS stream 0": 3 * perEntry, "XREAD STREAMS streams stream 0 0": entries(1000, perEntry),
		"XREADGROUP GROUP count 5 STREAMS stream >": entries(1000, perEntry+perDelivered), "XREADGROUP GROUP g c NOACK STREAMS stream >": entries(1000, perEntry),
		"XREADGROUP GROUP g c STREAMS stream 0": 300*perRedelivered + entries(1000, perEntry), "XREADGROUP GROUP g c COUNT 10 STREAMS stream 0": 10 * (perEntry + perRedelivered), "XREADGROUP GROUP g c COUNT 100 STREAMS stream >": 100 * (perEntry + perDelivered), "XAUTOCLAIM stream g c 0 0 COUNT 50": 50 * perClaimed, "XPENDING stream g": perConsumer, "XPENDING stream none": 0, "XAUTOCLAIM stream g c 0 0 COUNT 1000": 1000*perClaimed + 300*perUnclaimed + entries(1000, 0), "XPENDING stream g - + 70": 140 * perEntry, "XPENDING stream g IDLE 5 - + 70 c": 140*perEntry + 300*perPending, "XINFO STREAM stream FULL COUNT 0": entries(1000, perEntry) + perGroup + perConsumer + 300*perPending, "XINFO STREAM stream FULL": 10*perEntry + perGroup + perConsumer + 20*perPending,
		"XINFO STREAM stream": 0, "XINFO GROUPS stream": perGroup, "XINFO CONSUMERS stream g": perConsumer, "XGROUP DESTROY stream g": perConsumer + 300*perPending, "XGROUP DESTROY stream none": 0, "XGROUP DELCONSUMER stream g c": 300 * perForgotten,
		"MEMORY USAGE stream": perConsumer, "COPY stream d": 1000*perCopied + nodes*4096*perHashed + perGroup + perConsumer + 300*perForgotten,
		"GEOSEARCH geo FROMLONLAT 0 0 BYRADIUS 1 m": 1000 * perPlace, "GEOSEARCHSTORE d geo FROMLONLAT 0 0 BYRADIUS 1 m": 1000 * (perPlace + perStored), "GEORADIUS geo 0 0 1 m STORE d": 1000 * (perPlace + perStored), "GEOSEARCH geo FROMLONLAT 0 0 BYRADIUS 1 m WITHDIST WITHCOORD": 3000 * perPlace,
		"SRANDMEMBER set 5": 15 * perRandom, "SRANDMEMBER set -1000000": 1e6 * perRandom, "HRANDFIELD hash 5000": 1000 * perRandom, "HRANDFIELD hash": 0, "ZRANDMEMBER zset -7 WITHSCORES": 7 * perRandom,
		"SPOP set 5000": 1000 * perRemoved, "LPOP list 200": 200 * perRemoved, "ZPOPMIN zset 101": 101 * perRemoved,
		"BITCOUNT string": 10000 * perByte, "BITCOUNT string 0 9": 10 * perByte, "BITPOS string 1 100 -1": 9900 * perByte, "BITOP AND d string string": 20000, "BITOP AND d string none none": 30000,
		"GETRANGE string 0 -1": 10000 * perByte, "SETRANGE string 20000 xx": 10002*perZeroed + 10000*perByte, "SETRANGE string 5 x": 0, "SETBIT string 800000 1": 90000*perZeroed + 10000*perByte,
		"BITFIELD string GET u8 0": 0, "BITFIELD string SET u8 #100000 1": 790000*perZeroed + 10000*perByte, "LCS string string": 1e8 * perCell,
		"COPY set d": 1000 * perCopied, "DUMP hash": 1000 * perCopied, "DUMP string": 10000 * perByte, "MEMORY USAGE hash SAMPLES 0": 1000 * perCopied, "MEMORY USAGE hash": 0, "MEMORY USAGE hash SAMPLES 9": 9 * perCopied,
		"KEYS *": 9 * perKey, "FLUSHALL SYNC": 9 * perKey, "FLUSHALL": 0, "SCAN 0 COUNT 10000": 10000 * perScanned, "SSCAN set 0": 10 * perScanned, "PFCOUNT a b c": 3 * perRegisters,
		"LMPOP 1 list LEFT COUNT 200": 200 * perRemoved, "ZMPOP 2 none zset MAX": 0, "PUBSUB CHANNELS": 0, "PUBSUB CHANNELS *aaaaaaaaaaaaaaaaab": float64(2 * longestCommand),
		"LOLWUT VERSION 6 1000 1000": perDrawing, "LOLWUT": 0, "COMMAND DOCS get set": 2 * perTold,
		"OBJECT ENCODING hash": 0, "HGETALL": 0, "SINTERCARD 9 set": 0,
	} {
		if got := costOf(t, client, strings.Fields(line)); got < 0.999*want || got > 1.001*want {
			t.Errorf("%s: %.0f ns, want %.0f", line, got, want)
		}
	}
}

// A command that Redis calls fast is not when a number among its words makes it long.
func TestFastCommandsWithLargeNumbersAreNotBrief(t *testing.T) {
	_, client := filled(t)
	many := strings.Repeat(" x", command.BriefWords)
	for line, want := range map[string]bool{
		"SPOP set": true, "SPOP set 100": true, "SPOP set 101": false, "LPOP list 5": true, "RPOP list 1000000": false, "ZPOPMAX zset 1000": false,
		"SETBIT string 100 1": true, "SETBIT string 4294967295 1": false, "XAUTOCLAIM stream g c 0 0": true, "XAUTOCLAIM stream g c 0 0 COUNT 1000": false,
		"LOLWUT": true, "LOLWUT VERSION 5": true, "LOLWUT VERSION 6 1000 1000": false,
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
		if r := (&Request{Commands: []Command{cmd}}); spec.Fast && ForExpress(r, spec) && !want {
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

// Few elements that are long take as long as many short ones. These keys have a number
// of elements and bytes that no server has to hold for it.
func TestWhatACommandTakesFollowsFromTheBytesOfItsKeys(t *testing.T) {
	_, client := filled(t)
	const mega = 1e6
	for _, c := range []struct {
		line         string
		sizes, bytes []float64 // what Redis tells
		want         float64   // apart from what each element takes
	}{
		{"HGETALL h", []float64{300}, []float64{300 * mega}, 300 * mega * perCopy},
		{"HGETALL h", []float64{16}, nil, 0}, // not asked
		{"SMEMBERS s", []float64{17}, []float64{mega}, mega * perCopy},
		{"LRANGE l 0 99", []float64{1000}, []float64{100 * mega}, 10 * mega * perCopy},
		{"ZRANGEBYSCORE z 0 1", []float64{50, 1000}, []float64{100 * mega}, 5 * mega * perCopy},
		{"ZRANGESTORE d z 0 -1", []float64{1000}, []float64{mega}, mega * 2 * perHashed},
		{"SPOP s 100", []float64{1000}, []float64{10 * mega}, mega * perPopped},
		{"LPOP l 100", []float64{1000}, []float64{10 * mega}, mega * perCopy},
		{"ZMPOP 2 y z MIN COUNT 100", []float64{10, 1000}, []float64{mega, 100 * mega}, 10 * mega * perCopy},
		{"HRANDFIELD h 100", []float64{1000}, []float64{10 * mega}, 3 * mega * perCopy}, // up to three times as many are looked at
		{"HSCAN h 0 COUNT 100", []float64{1000}, []float64{10 * mega}, mega * perCopy},
		{"LREM l 0 x", []float64{1000}, []float64{mega}, mega * perMatched},
		{"SINTER a b", []float64{20, 0, 30, 0}, []float64{mega, 2 * mega}, 3 * mega * perHashed},
		{"SDIFF a b c", []float64{10, 0, 900, 0, 900, 0}, []float64{mega, 2, 2}, (3*mega + 4) * perHashed}, // each of the first in each other
		{"SDIFF a b c", []float64{900, 0, 10, 0, 10, 0}, []float64{mega, 2, 2}, (mega + 4) * perHashed},
		{"SORT l ALPHA", []float64{1024, 0, 0, 0, 0}, []float64{mega}, mega * (perCopy + 10*perCollated)},
		{"SORT l LIMIT 0 64", []float64{1024, 0, 0, 0, 0}, []float64{mega}, mega * perCopy / 16},
		{"SORT l BY w_* GET v_* ALPHA", []float64{1024, 0, 0, 5, 7}, []float64{0}, 1024 * (5*10*perCollated + 7*perCopy)},
	} {
		cmd := strings.Fields(c.line)
		spec, err := client.Spec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		e := estimateOf(spec, cmd)
		if len(e.asks) != len(c.sizes) {
			t.Errorf("%s: asks %v", c.line, e.asks)
			continue
		}
		e.sizes = c.sizes
		asked := 0
		for _, ask := range e.weighs() {
			if ask != nil {
				asked++
			}
		}
		if asked != len(c.bytes) {
			t.Errorf("%s asks for the bytes of %d keys", c.line, asked)
			continue
		}
		bytes := make([]float64, len(e.bytes.asks))
		copy(bytes, c.bytes)
		elements := e
		elements.bytes = weighing{}
		without := elements.nanoseconds(c.sizes, nil)
		if c.line[:4] == "SORT" { // it has the bytes of other keys among its sizes
			without = elements.nanoseconds([]float64{c.sizes[0], 0, 0, 0, 0}, nil)
		}
		if got := e.nanoseconds(e.sizes, bytes) - without; got < 0.99*c.want || got > 1.01*c.want {
			t.Errorf("%s: %.0f ns, want %.0f", c.line, got, c.want)
		}
	}
}

// What a payload of RESTORE makes follows from how it begins.
func TestWhatRestoreTakesFollowsFromItsPayload(t *testing.T) {
	cluster, client := filled(t)
	do := func(key string) string { return cluster.Nodes[0].Do("DUMP", key) }
	text := strings.Repeat("x", 5<<20)
	for what, c := range map[string]struct {
		payload string
		long    bool
	}{
		"a short list": {do("list"), false}, "a small set": {do("set"), false}, "nothing": {"", false}, "a byte": {"\x00", false}, "a length that is cut off": {"\x02\x80\x00", false},
		"a long string":           {"\x00\x80\x00\x50\x00\x00" + text, false},
		"a compressed one":        {"\x00\xc3\x40\x64\x80\x1f\x00\x00\x00" + text[:100], true},
		"one that says too much":  {"\x00\xc3\x40\x64\x81\x7f\xff\xff\xff\xff\xff\xff\xff" + text[:100], true},
		"a large set":             {"\x02\x80\x00\x0f\x00\x00" + text, true},
		"a large packed hash":     {"\x10\x80\x00\x50\x00\x00" + text, true},
		"a set that says so much": {"\x02\x80\x00\x0f\x00\x00" + text[:100], false},
		"a list of many nodes":    {"\x12\x80\x00\x0f\x00\x00" + text + text + text, true},
	} {
		cmd := Command{"RESTORE", "d", "0", c.payload}
		spec, err := client.Spec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		e := estimateOf(spec, cmd)
		if got := e.nanoseconds(nil, nil) > float64(longestCommand); got != c.long {
			t.Errorf("%s: %.0f ms", what, e.nanoseconds(nil, nil)/1e6)
		}
	}
}
