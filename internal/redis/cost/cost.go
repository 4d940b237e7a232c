// Package cost estimates the time that Redis takes for a command that is not brief, from its
// words and from how large its keys are. It tells what has to be asked for that, and does not
// ask. Which estimates are too high for what, its callers decide.
package cost

import (
	"math"
	"slices"
	"strings"
	"time"

	"holdfast/internal/redis/command"
)

// Redis carries out one command at a time. A command that takes longer than Sentinels wait
// makes them replace a master that works, and so may several together. The time follows from
// the command's words and from how large its keys are, which Redis tells in a constant time
// (STRLEN, LLEN, SCARD, …). So each command that is not brief has an estimate, and is refused
// if that is too high.

// LongestCommand bounds the estimate of a command, or of a transaction: two web
// nodes may have one each under way, and Sentinels wait for 500 ms or longer.
const LongestCommand = 200 * time.Millisecond

// Estimate is what is known of the time that a command takes.
type Estimate struct {
	Asks []command.Command // commands that tell sizes
	// cost are the nanoseconds, by the sizes that were told; it may be nil: base
	// alone counts.
	cost func(sizes []float64) float64
	Base float64
	// bytes is what it takes beside that for the bytes of its keys.
	bytes weighing
	// Sizes are the replies to Asks, and Weights those to the questions of bytes.
	Sizes, Weights []float64
	// Timed is how many of asks are for cost; the others are the parts of the answer.
	// ranged: the cost is the answer's. length is what another answer had.
	Timed  int
	Ranged bool
	Whole  bool // asks tell the parts of the answer
	Length float64
	// Instead is what a client is to use when the estimate is too high.
	Instead string
}

// Nanoseconds is the estimate once the sizes are known, and the bytes of keys.
func (e *Estimate) Nanoseconds(sizes, bytes []float64) float64 {
	ns := e.Base
	if e.cost != nil {
		ns += e.cost(sizes)
	}
	if e.bytes.cost != nil {
		ns += e.bytes.cost(sizes, bytes)
	}
	return ns
}

// and returns the estimate of a command that does two things. The other one has no
// bytes of its own.
func (e Estimate) and(other Estimate) Estimate {
	n, one, two := len(e.Asks), e.cost, other.cost
	e.Asks = slices.Concat(e.Asks, other.Asks)
	e.Base += other.Base
	e.cost = func(sizes []float64) (ns float64) {
		if one != nil {
			ns += one(sizes[:n])
		}
		if two != nil {
			ns += two(sizes[n:])
		}
		return ns
	}
	return e
}

// What a command takes in nanoseconds for each word, and in any case. The words'
// time is that of ZADD, which takes the most.
const (
	perCommand = 2e3
	perWord    = 800
)

// Estimates of the time that a command takes for each element, byte or key, in
// nanoseconds. They were measured with a million elements (docs/decisions/013).
const (
	perMember    = 500  // SMEMBERS
	perField     = 800  // HGETALL
	perRanged    = 350  // ZRANGE … WITHSCORES
	perListed    = 120  // LRANGE
	perPassed    = 25   // LREM, LPOS, LINSERT
	perSkipped   = 2    // LINDEX, LSET, LTRIM
	perEntry     = 600  // XRANGE
	perSorted    = 1500 // SORT
	perCompared  = 3500 // SORT … ALPHA, SORT … BY
	perInter     = 800  // SINTER, for each member of the smallest set in each set
	perDiff      = 1200
	perUnion     = 1000
	perZInter    = 2000
	perZDiff     = 3000
	perZUnion    = 4500
	perStored    = 2200 // ZRANGESTORE
	perRemoved   = 700  // ZREMRANGEBYSCORE, ZPOPMIN
	perRandom    = 1500 // HRANDFIELD
	perPlace     = 500  // GEOSEARCH
	perByte      = 0.7  // BITCOUNT, GETRANGE
	perZeroed    = 1.4  // SETBIT, SETRANGE beyond the end
	perCell      = 13   // LCS
	perCopied    = 800  // COPY, DUMP
	perKey       = 500  // KEYS
	perRegisters = 20e3 // PFCOUNT, for each key
	perScanned   = 2000 // SCAN … COUNT
)

// longestString is how many bytes a string may have, as Redis comes (manual,
// proto-max-bulk-len).
const longestString = 512 << 20

// unlimited stands for an end that is not given.
const unlimited = math.MaxInt32

// Of returns the estimate of a command that is not brief.
func Of(s *command.Spec, cmd command.Command) Estimate {
	e := dataCost(s, cmd)
	e.Base += perCommand + perWord*float64(len(cmd))
	return e
}

func dataCost(s *command.Spec, cmd command.Command) Estimate {
	if s == nil || !s.Takes(cmd) {
		return Estimate{} // Redis refuses it
	}
	switch s.Name {
	case "smembers":
		return ofAll(perMember, "SSCAN", "SCARD", cmd[1]).copied(cmd[1], perMember, perCopy, 0)
	case "hgetall", "hkeys", "hvals":
		return ofAll(perField, "HSCAN or HMGET", "HLEN", cmd[1]).copied(cmd[1], perField, perCopy, 0)
	case "sinter", "sinterstore", "sintercard", "zinter", "zinterstore", "zintercard":
		per := float64(perInter)
		if s.Name[0] == 'z' {
			per = perZInter
		}
		e, keys := ofSets(s, cmd, func(sizes []float64) float64 { return per * slices.Min(sizes) * float64(len(sizes)) })
		return e.withBytes(keys, allBytes(perHashed))
	case "sdiff", "sdiffstore", "zdiff", "zdiffstore":
		per := float64(perDiff)
		if s.Name[0] == 'z' {
			per = perZDiff
		}
		e, keys := ofWholeSets(s, cmd, func(sizes []float64) float64 {
			return per * min(sizes[0]*float64(len(sizes)), together(sizes))
		})
		return e.withBytes(keys, differing)
	case "sunion", "sunionstore":
		e, keys := ofWholeSets(s, cmd, func(sizes []float64) float64 { return perUnion * together(sizes) })
		return e.withBytes(keys, allBytes(perHashed))
	case "zunion", "zunionstore":
		e, keys := ofWholeSets(s, cmd, func(sizes []float64) float64 { return perZUnion * together(sizes) })
		return e.withBytes(keys, allBytes(perHashed))
	case "lrange":
		return ofRange(perListed, "a shorter range", "LLEN", cmd[1], cmd[2], cmd[3]).copied(cmd[1], perListed, perCopy, 0)
	case "lindex", "lset", "ltrim":
		return ofAll(perSkipped, "shorter lists", "LLEN", cmd[1])
	case "lrem", "linsert", "lpos":
		return ofAll(perPassed, "shorter lists", "LLEN", cmd[1]).withBytes(cmd[1:2], allBytes(perMatched))
	case "sort", "sort_ro":
		return sortCost(cmd)
	case "srandmember", "hrandfield", "zrandmember":
		if len(cmd) < 3 {
			return Estimate{}
		}
		size := map[byte]string{'s': "SCARD", 'h': "HLEN", 'z': "ZCARD"}[s.Name[0]]
		n := command.Number(cmd[2])
		if n < 0 {
			return drawn(-n, size, cmd[1])
		}
		return ofAll(perRandom, "a smaller count", size, cmd[1]).limited(3*n).copied(cmd[1], perRandom, perCopy, 0)
	case "spop", "lpop", "rpop", "zpopmin", "zpopmax":
		if len(cmd) < 3 {
			return Estimate{}
		}
		size := map[byte]string{'s': "SCARD", 'l': "LLEN", 'r': "LLEN", 'z': "ZCARD"}[s.Name[0]]
		perByte := perCopy
		if s.Name == "spop" {
			perByte = perPopped
		}
		return ofAll(perRemoved, "a smaller count", size, cmd[1]).limited(command.Number(cmd[2])).copied(cmd[1], perRemoved, perByte, 0)
	case "lmpop", "zmpop":
		return popCost(s, cmd)
	case "geosearch", "georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro", "geosearchstore":
		per, key := float64(perPlace), 1
		if s.Name == "geosearchstore" {
			per, key = perPlace+perStored, 2
		}
		if command.Option(cmd, "store") > 0 || command.Option(cmd, "storedist") > 0 {
			per = perPlace + perStored
		}
		for _, with := range []string{"withcoord", "withdist", "withhash"} {
			if command.Option(cmd, with) > 0 {
				per += perPlace
			}
		}
		return ofAll(per, "several smaller keys, one for each region", "ZCARD", cmd[key]).copied(cmd[key], per, perCopy, 0)
	case "copy", "dump":
		e := ofAnything(s, cmd[1:2]).and(Estimate{Asks: []command.Command{eval(bytesScript, cmd[1:2])}, cost: linear(perHashed)})
		e = e.and(ofContents(cmd[1], unlimited, 0, 0, perHashed)).and(ofGroups(cmd[1], "", perGroup, perConsumer, perForgotten, unlimited))
		e.Instead = "smaller keys"
		return e
	case "memory|usage":
		e := ofGroups(cmd[2], "", perConsumer/2, perConsumer/2, 0, 0) // it goes through all of these
		e.Instead = "XINFO STREAM"
		at := command.Option(cmd, "samples")
		if at == 0 || at+1 >= len(cmd) {
			return e
		}
		elements := ofAnything(s, cmd[2:3])
		if n := command.Number(cmd[at+1]); n > 0 {
			elements = elements.atMost(n * perCopied)
		}
		e = elements.and(e)
		e.Instead = "fewer SAMPLES"
		return e
	case "keys":
		if Hardness(cmd[1]) > maxKeySteps {
			return tooMuch("a pattern that repeats itself less between its asterisks")
		}
		return ofDatabase("SCAN")
	case "flushall", "flushdb":
		if len(cmd) > 1 && strings.EqualFold(cmd[1], "sync") {
			return ofDatabase("ASYNC")
		}
		return Estimate{}
	case "scan", "sscan", "hscan", "zscan":
		return scanCost(s, cmd)
	case "get", "getex", "mget":
		keys := cmd[1:]
		if s.Name == "getex" {
			keys = cmd[1:2]
		}
		e := ofKeys(keys, "STRLEN")
		e.cost, e.Instead = linear(perAnswer), "fewer keys"
		return e
	case "hget", "hmget":
		var e Estimate
		for _, field := range cmd[2:] {
			e.Asks = append(e.Asks, command.Command{"HSTRLEN", cmd[1], field})
		}
		e.cost, e.Instead = linear(perAnswer), "fewer fields"
		return e
	case "script|load", "function|load", "function|restore":
		return Estimate{Base: perCode * float64(lengthOfWords(cmd)), Instead: "a shorter program"}
	case "publish":
		return publishCost(cmd)
	case "pubsub|channels", "pubsub|shardchannels":
		return channelsCost(cmd)
	case "lolwut":
		if s.Few(cmd) {
			return Estimate{}
		}
		return Estimate{Base: perDrawing, Instead: "LOLWUT without arguments"}
	case "command|docs", "command|info", "latency|histogram", "config|get":
		return Estimate{Base: perTold * float64(len(cmd)-2), Instead: "fewer names at a time"}
	case "restore":
		return restoreCost(cmd)
	case "pfcount", "pfmerge":
		return Estimate{Base: perRegisters * float64(len(cmd)-1), Instead: "fewer keys"}
	}
	for _, more := range []func(*command.Spec, command.Command) (Estimate, bool){rangeCost, stringCost, streamCost} {
		if e, known := more(s, cmd); known {
			return e
		}
	}
	switch {
	case s.Brief():
		return Estimate{} // by its words alone
	case s.Name == "object" || s.Container() || strings.Contains(s.Name, "|"):
		return Estimate{}
	case s.RunsScript():
		return Estimate{Base: perCode * float64(len(cmd[1])), Instead: "a shorter script"} // what the script does is not known
	case s.Module:
		return Estimate{} // not known
	}
	keys := told(s, cmd)
	if len(keys) == 0 {
		return Estimate{Base: perKey * 100}
	}
	e := ofAnything(s, keys)
	e.Instead = "smaller keys"
	return e
}

// rangeCost is the estimate of what is about a part of a sorted set.
func rangeCost(s *command.Spec, cmd command.Command) (Estimate, bool) {
	kind, key, reverse, per, perByte := "", 1, false, float64(perRanged), perCopy
	switch s.Name {
	case "zrange", "zrangestore":
		if s.Name == "zrangestore" {
			key, per, perByte = 2, perStored, 2*perHashed
		}
		if kind = "RANK"; command.Option(cmd, "byscore") > 0 {
			kind = "SCORE"
		} else if command.Option(cmd, "bylex") > 0 {
			kind = "LEX"
		}
		reverse = command.Option(cmd, "rev") > 0
	case "zrevrange":
		kind = "RANK" // as many elements, counted from the other end
	case "zrangebyscore":
		kind = "SCORE"
	case "zrevrangebyscore":
		kind, reverse = "SCORE", true
	case "zrangebylex":
		kind = "LEX"
	case "zrevrangebylex":
		kind, reverse = "LEX", true
	case "zremrangebyrank":
		kind, per = "RANK", perRemoved
	case "zremrangebyscore":
		kind, per = "SCORE", perRemoved
	case "zremrangebylex":
		kind, per = "LEX", perRemoved
	default:
		return Estimate{}, false
	}
	if len(cmd) < key+3 {
		return Estimate{}, true
	}
	if kind == "RANK" {
		return ofRange(per, "a shorter range", "ZCARD", cmd[key], cmd[key+1], cmd[key+2]).copied(cmd[key], per, perByte, 0), true
	}
	first, last := cmd[key+1], cmd[key+2]
	if reverse {
		first, last = last, first
	}
	count := "ZCOUNT"
	if kind == "LEX" {
		count = "ZLEXCOUNT"
	}
	e := Estimate{
		Asks: []command.Command{{count, cmd[key], first, last}, {"ZCARD", cmd[key]}},
		cost: func(sizes []float64) float64 { return per * sizes[0] }, Instead: "a shorter range, or LIMIT",
	}
	if at := command.Option(cmd, "limit"); at > 0 && at+2 < len(cmd) {
		if n := command.Number(cmd[at+2]); n >= 0 {
			e = e.limited(command.Number(cmd[at+1]) + n)
		}
	}
	return e.copied(cmd[key], per, perByte, 1), true
}

// sizesOf are the commands that tell the size of a value, by category.
var sizesOf = map[string]string{
	"hash": "HLEN", "set": "SCARD", "sortedset": "ZCARD", "geo": "ZCARD", "list": "LLEN",
	"string": "STRLEN", "bitmap": "STRLEN", "hyperloglog": "STRLEN", "stream": "XLEN",
}

// ofAnything is the estimate of a command that takes its keys as a whole.
func ofAnything(s *command.Spec, keys []string) Estimate {
	var sizes []string
	for category, size := range sizesOf {
		if s.In(category) && !slices.Contains(sizes, size) {
			sizes = append(sizes, size)
		}
	}
	if len(sizes) == 0 {
		sizes = []string{"HLEN", "SCARD", "ZCARD", "LLEN", "XLEN", "STRLEN"}
	}
	slices.Sort(sizes)
	bytes := slices.Index(sizes, "STRLEN")
	e := ofKeys(keys, sizes...)
	e.cost = func(told []float64) (ns float64) {
		for i, n := range told {
			if i%len(sizes) == bytes {
				ns += perByte * n
			} else {
				ns += perCopied * n
			}
		}
		return ns
	}
	return e
}

// told are the keys of a command that it can be told by its words.
func told(s *command.Spec, cmd command.Command) (keys []string) {
	for i := range s.KeySpecs {
		if more, ok := s.KeySpecs[i].Collect(nil, cmd); ok {
			keys = append(keys, more...)
		}
	}
	return keys
}

// ofSets is the estimate of a command about several sets, or sorted sets. Where it
// stores what it finds, the first key is where to. It returns the others, too.
func ofSets(s *command.Spec, cmd command.Command, cost func(sizes []float64) float64) (e Estimate, keys []string) {
	keys = told(s, cmd)
	if strings.HasSuffix(s.Name, "store") && len(keys) > 0 {
		keys = keys[1:]
	}
	if len(keys) == 0 {
		return Estimate{}, nil
	}
	const each = 2
	e = ofKeys(keys, "SCARD", "ZCARD")
	e.cost = func(told []float64) float64 {
		sizes := make([]float64, len(told)/each)
		for i := range sizes {
			sizes[i] = together(told[i*each : i*each+each]) // one of them is an error
		}
		return cost(sizes)
	}
	e.Instead = "smaller sets"
	return e, keys
}

// ofWholeSets is ofSets for a command that goes through its sets as often as it
// names them.
func ofWholeSets(s *command.Spec, cmd command.Command, cost func(sizes []float64) float64) (Estimate, []string) {
	e, keys := ofSets(s, cmd, cost)
	if most(keys) > command.MaxNamed {
		return tooMuch("each key once"), nil
	}
	return e, keys
}

// ofKeys asks for the sizes of keys.
func ofKeys(keys []string, sizes ...string) (e Estimate) {
	for _, key := range keys {
		for _, size := range sizes {
			e.Asks = append(e.Asks, command.Command{size, key})
		}
	}
	return e
}

func ofAll(per float64, instead, size, key string) Estimate {
	return Estimate{Asks: []command.Command{{size, key}}, cost: linear(per), Instead: instead}
}

func ofDatabase(instead string) Estimate {
	return Estimate{Asks: []command.Command{{"DBSIZE"}}, cost: linear(perKey), Instead: instead}
}

// ofRange is the estimate of a command about the elements from first to last, each
// counted from the end when it is negative.
func ofRange(per float64, instead, size, key, first, last string) Estimate {
	from, to := command.Number(first), command.Number(last)
	return Estimate{Asks: []command.Command{{size, key}}, Instead: instead, cost: func(sizes []float64) float64 {
		n, a, b := sizes[0], from, to
		if a < 0 {
			a = max(0, a+n)
		}
		if b < 0 {
			b += n
		}
		return per * max(0, min(b, n-1)-a+1)
	}}
}

// limited is the estimate when a command takes at most n of the elements.
func (e Estimate) limited(n float64) Estimate {
	one := make([]float64, len(e.Asks))
	one[0] = 1
	all, each := e.cost, e.cost(one)
	e.cost = func(sizes []float64) float64 { return min(all(sizes), each*max(0, n)) }
	return e
}

// atMost is the estimate when a command takes no longer than so many nanoseconds.
func (e Estimate) atMost(ns float64) Estimate {
	all := e.cost
	e.cost = func(sizes []float64) float64 { return min(all(sizes), ns) }
	return e
}

func linear(per float64) func([]float64) float64 {
	return func(sizes []float64) float64 { return per * together(sizes) }
}

func together(sizes []float64) (total float64) {
	for _, n := range sizes {
		total += n
	}
	return total
}

// lengthOfWords returns how many bytes some words have.
func lengthOfWords(words []string) (n int) {
	for _, w := range words {
		n += len(w)
	}
	return n
}
