package cost

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/redis/command"
)

// Ten elements of 900 KB may be as much work as ten million. Redis tells about how
// many bytes a key has (manual, MEMORY USAGE), from some of its elements. That is
// asked where a size has shown that there are enough elements, and that the key is no
// stream, all of whose groups and consumers MEMORY USAGE goes through.

const (
	perCopy     = 1.0 // for each byte of elements that are copied into an answer
	perPopped   = 8.0 // SPOP, for each byte: each element is written to the replicas by itself
	perMatched  = 0.3 // LREM, LINSERT: for each byte of a list
	perCollated = 0.3 // SORT … ALPHA, for each byte and each time that it is halved
)

// fewElements are not asked about: as long as a request may be each, they take as long
// as a command may.
const fewElements = 16

// defaultSamples is how many elements Redis looks at where it is not told.
const defaultSamples = 5

// weighing is the part of an estimate that follows from how many bytes keys have.
type weighing struct {
	asks []command.Command // one for each key
	// Of the estimate's questions the first each are about the first of these keys, the
	// next about the second, and so on: least is how many elements these have to tell
	// of together.
	each  int
	least float64
	cost  func(sizes, bytes []float64) float64
	// through is how many elements the command goes through; nil: all.
	through func(sizes []float64) float64
}

// Redis looks at as many elements as a command goes through, times samplesOver, and at
// manySamples at the most, about 30 ms' worth. So it misses no long elements among
// short ones, but for those of which the command takes a small part.
const (
	samplesOver = 16
	manySamples = 300_000
)

// Weighs returns the questions about the bytes of keys, by the sizes that were told;
// nil stands for a key that is small enough.
func (e *Estimate) Weighs() []command.Command {
	asks := make([]command.Command, len(e.bytes.asks))
	for i, ask := range e.bytes.asks {
		at := i * e.bytes.each
		size := together(e.Sizes[at : at+e.bytes.each])
		if size <= e.bytes.least {
			continue
		}
		if e.bytes.through != nil {
			size = min(size, samplesOver*e.bytes.through(e.Sizes))
		}
		if n := int(min(size, manySamples)); n > defaultSamples && !e.tooMany() {
			ask = append(slices.Clip(ask), "SAMPLES", strconv.Itoa(n))
		}
		asks[i] = ask
	}
	return asks
}

// tooMany reports whether a command takes too long for its elements alone, whatever
// bytes they have.
func (e *Estimate) tooMany() bool {
	sizes := e.Sizes
	if e.Timed > 0 {
		sizes = sizes[:e.Timed]
	}
	return e.cost != nil && e.Base+e.cost(sizes) > float64(LongestCommand)
}

// withBytes adds what a command takes for each byte of its keys, each of which has
// the same number of questions in the estimate.
func (e Estimate) withBytes(keys []string, cost func(sizes, bytes []float64) float64) Estimate {
	if len(keys) == 0 {
		return e
	}
	e.bytes = weighing{each: len(e.Asks) / len(keys), cost: cost}
	for _, key := range keys {
		e.bytes.asks = append(e.bytes.asks, command.Command{"MEMORY", "USAGE", key})
	}
	return e
}

// copied adds what a command takes for the bytes of those elements of a key that it
// copies or takes away. perElement is what the estimate has for one of them, and whole
// where the number of all elements is among the sizes.
func (e Estimate) copied(key string, perElement, perByte float64, whole int) Estimate {
	part := e.cost
	e = e.withBytes([]string{key}, func(sizes, bytes []float64) float64 {
		return perByte * bytes[0] * min(1, part(sizes)/perElement/max(1, sizes[whole]))
	})
	e.bytes.least = fewElements
	e.bytes.through = func(sizes []float64) float64 { return part(sizes) / perElement }
	return e
}

// allBytes is for withBytes: per for each byte.
func allBytes(per float64) func(sizes, bytes []float64) float64 {
	return func(_, bytes []float64) float64 { return per * together(bytes) }
}

// differing is for withBytes of a difference. Redis looks the elements of the first set
// up in each other one, or goes through all of them once, by which of these are fewer
// steps (t_set.c, sunionDiffGenericCommand).
func differing(sizes, bytes []float64) float64 {
	const each = 2 // questions for each set
	if n := float64(len(bytes)); n*together(sizes[:each])/2 <= together(sizes) {
		return perHashed * (n*bytes[0] + together(bytes[1:]))
	}
	return perHashed * together(bytes)
}

// halvings is how often n elements can be halved, about as often as a sort compares
// each.
func halvings(n float64) float64 { return math.Log2(max(2, n)) }

// popCost is the estimate of LMPOP and ZMPOP.
func popCost(s *command.Spec, cmd command.Command) Estimate {
	keys := told(s, cmd)
	size := map[byte]string{'l': "LLEN", 'z': "ZCARD"}[s.Name[0]]
	n := command.OptionNumber(cmd, "count", 1)
	if n <= fewElements || len(keys) == 0 {
		return Estimate{}
	}
	e := ofKeys(keys, size)
	e.cost, e.Instead = linear(perRemoved), "a smaller COUNT"
	e = e.limited(n).withBytes(keys, func(sizes, bytes []float64) (ns float64) {
		for i := range bytes { // one of them
			ns = max(ns, perCopy*bytes[i]*min(1, n/max(1, sizes[i])))
		}
		return ns
	})
	e.bytes.through = func([]float64) float64 { return n }
	return e
}

// sampleScript returns how long the values are that SORT finds by its patterns
// ARGV, together, for the longest of some elements of KEYS[1].
const sampleScript = `
local kind, sample = redis.call('TYPE', KEYS[1]).ok, {}
if kind == 'list' then
  sample = {redis.call('LINDEX', KEYS[1], 0), redis.call('LINDEX', KEYS[1], -1), redis.call('LINDEX', KEYS[1], math.floor(redis.call('LLEN', KEYS[1]) / 2))}
elseif kind == 'set' then
  sample = redis.call('SRANDMEMBER', KEYS[1], 3)
elseif kind == 'zset' then
  sample = redis.call('ZRANGE', KEYS[1], 0, 2)
end
local sum = 0
for _, pattern in ipairs(ARGV) do
  local before, after = string.match(pattern, '^(.-)%*(.*)$')
  local longest = 0
  for _, element in ipairs(before and sample or {}) do
    local rest, field = string.match(after, '^(.*)%->(.+)$')
    local key = before .. element .. (rest or after)
    local n = field and redis.pcall('HSTRLEN', key, field) or redis.pcall('STRLEN', key)
    if type(n) == 'number' then longest = math.max(longest, n) end
  end
  sum = sum + longest
end
return sum
`

// sortCost is the estimate of SORT.
func sortCost(cmd command.Command) Estimate {
	per, alpha, limit := float64(perSorted), false, float64(unlimited)
	var by string
	var gets []string
	for i := 2; i < len(cmd); i++ {
		switch more := i+1 < len(cmd); {
		case strings.EqualFold(cmd[i], "alpha"):
			per, alpha = max(per, perCompared), true
		case strings.EqualFold(cmd[i], "by") && more:
			i++
			by, per = cmd[i], max(per, perCompared)
		case strings.EqualFold(cmd[i], "get") && more:
			i++
			gets = append(gets, cmd[i])
		case strings.EqualFold(cmd[i], "limit") && i+2 < len(cmd):
			limit = command.Number(cmd[i+2])
			i += 2
		}
	}
	per += perBuilt * float64(len(by))
	for _, pattern := range gets {
		per += perSorted/3 + perBuilt*float64(len(pattern))
	}

	e := ofKeys(cmd[1:2], "LLEN", "SCARD", "ZCARD")
	sizes := len(e.Asks)
	e = e.withBytes(cmd[1:2], func(told, bytes []float64) float64 {
		n := max(1, together(told[:sizes]))
		perByte := 0.0
		if alpha && by == "" {
			perByte = perCollated * halvings(n)
		}
		if limit >= 0 {
			return bytes[0] * (perByte + perCopy*min(1, limit/n))
		}
		return bytes[0] * (perByte + perCopy)
	})
	e.bytes.least = fewElements
	e.Asks = append(e.Asks, eval(sampleScript, cmd[1:2], by), eval(sampleScript, cmd[1:2], gets...))
	e.cost = func(told []float64) float64 {
		n := together(told[:sizes])
		got := n
		if limit >= 0 {
			got = min(n, limit)
		}
		return per*n + n*told[sizes]*perCollated*halvings(n) + got*told[sizes+1]*perCopy
	}
	e.Instead = "a sorted set, which keeps its order"
	return e
}
