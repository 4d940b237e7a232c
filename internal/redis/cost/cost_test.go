package cost

import (
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/redistest"
)

// server is a Redis with some keys, and what it says of its commands.
type server struct {
	node   *redistest.Server
	client rueidis.Client
	table  *command.Table
}

// filled is a server with keys of 1,000 elements and a string of 10,000 bytes.
func filled(t *testing.T) *server {
	t.Helper()
	node := redistest.Start(t, 0, 0).Nodes[0]
	if got := node.Do("EVAL", `
for i = 1, 1000 do
  redis.call('SADD', 'set', i) redis.call('HSET', 'hash', i, i) redis.call('ZADD', 'zset', i, i) redis.call('RPUSH', 'list', i)
  redis.call('XADD', 'stream', '*', 'f', i) redis.call('GEOADD', 'geo', 0, i / 100, i) redis.call('ZADD', 'lex', 0, 1000 + i)
end
redis.call('XGROUP', 'CREATE', 'stream', 'g', '0') redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '300', 'STREAMS', 'stream', '>')
redis.call('SADD', 'few', 1, 2) redis.call('SETRANGE', 'string', 9999, 'x')
return 1`, "0"); got != "1" {
		t.Fatal(got)
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{node.Addr}, Username: redistest.Username, Password: redistest.Password,
		ForceSingleClient: true, DisableCache: true, AlwaysRESP2: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	entries, err := client.Do(t.Context(), client.B().Arbitrary("COMMAND").Build()).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	return &server{node, client, command.NewTable(node.Addr, entries)}
}

// costOf is what a command is estimated to take, apart from its words and from how
// many bytes its keys have.
func (s *server) costOf(t *testing.T, cmd command.Command) float64 {
	t.Helper()
	e := Of(s.table.Lookup(cmd), cmd)
	for _, ask := range e.Asks {
		reply := s.client.Do(t.Context(), s.client.B().Arbitrary(ask...).Build()) // with the rights of a web node
		size := 0.0
		if n, err := reply.AsInt64(); err == nil && (ask[0] != "EVAL" || ask[1] != bytesScript) {
			size = float64(n)
		} else if err != nil && strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%v: %v", ask, err)
		}
		e.Sizes = append(e.Sizes, size)
	}
	return e.Nanoseconds(e.Sizes, make([]float64, len(e.Weighs()))) - perCommand - perWord*float64(len(cmd))
}

func TestWhatACommandTakesFollowsFromItsWordsAndTheSizesOfItsKeys(t *testing.T) {
	s := filled(t)
	nodes := command.Number(s.node.Do("EVAL", nodesScript, "1", "stream"))
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
		"LMPOP 1 list LEFT COUNT 200": 200 * perRemoved, "ZMPOP 2 none zset MAX": 0, "PUBSUB CHANNELS": 0, "PUBSUB CHANNELS *aaaaaaaaaaaaaaaaab": float64(2 * LongestCommand),
		"LOLWUT VERSION 6 1000 1000": perDrawing, "LOLWUT": 0, "COMMAND DOCS get set": 2 * perTold,
		"OBJECT ENCODING hash": 0, "HGETALL": 0, "SINTERCARD 9 set": 0,
	} {
		if got := s.costOf(t, strings.Fields(line)); got < 0.999*want || got > 1.001*want {
			t.Errorf("%s: %.0f ns, want %.0f", line, got, want)
		}
	}
}

// Few elements that are long take as long as many short ones. These keys have a number
// of elements and bytes that no server has to hold for it.
func TestWhatACommandTakesFollowsFromTheBytesOfItsKeys(t *testing.T) {
	s := filled(t)
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
		e := Of(s.table.Lookup(cmd), cmd)
		if len(e.Asks) != len(c.sizes) {
			t.Errorf("%s: asks %v", c.line, e.Asks)
			continue
		}
		e.Sizes = c.sizes
		asked := 0
		for _, ask := range e.Weighs() {
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
		without := elements.Nanoseconds(c.sizes, nil)
		if c.line[:4] == "SORT" { // it has the bytes of other keys among its sizes
			without = elements.Nanoseconds([]float64{c.sizes[0], 0, 0, 0, 0}, nil)
		}
		if got := e.Nanoseconds(e.Sizes, bytes) - without; got < 0.99*c.want || got > 1.01*c.want {
			t.Errorf("%s: %.0f ns, want %.0f", c.line, got, c.want)
		}
	}
}

// What a payload of RESTORE makes follows from how it begins.
func TestWhatRestoreTakesFollowsFromItsPayload(t *testing.T) {
	s := filled(t)
	do := func(key string) string { return s.node.Do("DUMP", key) }
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
		cmd := command.Command{"RESTORE", "d", "0", c.payload}
		e := Of(s.table.Lookup(cmd), cmd)
		if got := e.Nanoseconds(nil, nil) > float64(LongestCommand); got != c.long {
			t.Errorf("%s: %.0f ms", what, e.Nanoseconds(nil, nil)/1e6)
		}
	}
}

func TestAPatternIsAsHardAsItMayOverlapItself(t *testing.T) {
	for pattern, want := range map[string]float64{
		"": 0, "user:*": 0, "aaaaaaaaaaaaa": 0, "??????*": 0, "*": 0, "*a": 1, "*:cart": 1, "user:*:cart:*": 1,
		"*aaaa": 4, "a*bbb*cc": 3, "*abab": 2, "*abcabcabcx": 3, "*????": 4, "*[a-z][0-9]": 8, `*\a\a\a`: 3, `*a\*a`: 3, "*:20??-??-??": 1,
		"*[ab": 3, `*\`: 1,
	} {
		if got := Hardness(pattern); got < want || got > want+1 {
			t.Errorf("%q: %v, want about %v", pattern, got, want)
		}
	}
	hard, easy := "*"+strings.Repeat("ab", 10), "*abcdefg"
	for pattern, want := range map[string]string{hard: "10", easy: "10000"} {
		if got := WithShortCount([]string{"COUNT", "50000", "MATCH", pattern})[1]; got != want {
			t.Errorf("%q: COUNT %s, want %s", pattern, got, want)
		}
	}
}
