package cost

import (
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/redis/command"
)

// What a stream's commands take, in nanoseconds, measured with an append-only file
// and a replica: a delivery and a claim are also written to these, entry by entry.
const (
	perItem        = 150   // a field or a value of an entry
	perDelivered   = 6000  // XREADGROUP of new entries
	perRedelivered = 3000  // XREADGROUP of entries that are pending
	perClaimed     = 10e3  // XCLAIM, XAUTOCLAIM
	perUnclaimed   = 2500  // XAUTOCLAIM, for an entry that it passes over
	perDeleted     = 4e3   // XDEL
	perNode        = 2000  // XTRIM, for each node of the stream's tree
	perPending     = 600   // XPENDING … IDLE, XGROUP DESTROY, and XINFO STREAM … FULL, for a pending entry
	perForgotten   = 800   // XGROUP DELCONSUMER
	perGroup       = 1500  // XINFO GROUPS
	perConsumer    = 1000  // XINFO CONSUMERS
	passedOver     = 10    // how many entries XAUTOCLAIM looks at for each that it may claim (manual, XAUTOCLAIM)
	fullEntries    = 10    // XINFO STREAM … FULL shows so many of each kind (manual, XINFO STREAM)
	fewStreams     = 16    // as many keys have their entries looked at
	mostGroups     = 10000 // groups whose pending entries are counted, which takes 10 ms
)

// streamFields begins a script about the stream KEYS[1]. It returns 0 where there is
// none.
const streamFields = `
local function field(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
  return 0
end
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
if stream.err then return 0 end
`

// entriesScript returns what it takes to read ARGV[1] entries of a stream, in
// nanoseconds: ARGV[2] for each, ARGV[3] for each field or value, and ARGV[4] for each
// byte. XINFO tells the first and the last entry, and how many nodes there are, each of
// which has 4096 bytes (stream-node-max-bytes) or one longer entry.
const entriesScript = streamFields + `
local length = field(stream, 'length')
if length == 0 then return 0 end
local items, longest = 0, 4096
for _, name in ipairs({'first-entry', 'last-entry'}) do
  local entry = field(stream, name)
  if type(entry) == 'table' and entry[2] then
    local bytes = 0
    for _, item in ipairs(entry[2]) do bytes = bytes + #item end
    items, longest = math.max(items, #entry[2]), math.max(longest, bytes)
  end
end
local all = length * (ARGV[2] + ARGV[3] * items) + field(stream, 'radix-tree-keys') * longest * ARGV[4]
return all * math.min(1, ARGV[1] / length)
`

// groupsScript returns what it takes to go through the groups of a stream, in
// nanoseconds: ARGV[2] for each group, and for those named ARGV[1], or all of them if
// that is empty, ARGV[3] for each consumer and ARGV[4] for each pending entry, of which
// the group and each consumer show ARGV[5] at the most. XINFO GROUPS takes long where
// there are very many groups, and is not asked for then.
var groupsScript = streamFields + `
local groups = field(stream, 'groups')
local ns = groups * ARGV[2]
if ARGV[3] + ARGV[4] == 0 then return ns end
if groups > ` + strconv.Itoa(mostGroups) + ` then return ` + strconv.Itoa(int(2*LongestCommand)) + ` end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if ARGV[1] == '' or field(group, 'name') == ARGV[1] then
    local consumers, pending = field(group, 'consumers'), field(group, 'pending')
    ns = ns + consumers * ARGV[3] + math.min(pending, (1 + consumers) * ARGV[5]) * ARGV[4]
  end
end
return ns
`

// nodesScript returns how many nodes a stream's tree has.
const nodesScript = streamFields + `return field(stream, 'radix-tree-keys')`

// bytesScript returns about how many bytes a key has that is no stream, as far as Redis
// knows from some of its elements (manual, MEMORY USAGE). Of a stream that goes through
// all groups and consumers.
const bytesScript = `
if redis.call('TYPE', KEYS[1]).ok == 'stream' then return 0 end
return redis.call('MEMORY', 'USAGE', KEYS[1]) or 0
`

// eval is a question that takes a script.
func eval(script string, keys []string, args ...string) command.Command {
	return slices.Concat(command.Command{"EVAL", script, strconv.Itoa(len(keys))}, keys, args)
}

// decimal is a number as a script reads it.
func decimal(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// ofEntries is the estimate of a command that reads up to n entries of a stream, and
// takes so many nanoseconds for each, apart from what they contain. Few entries are
// not asked about.
func ofEntries(key string, n, each float64) Estimate {
	if n <= command.BriefRange {
		return Estimate{Base: each * max(0, n)}
	}
	return ofContents(key, n, each, perItem, perCopy)
}

// ofContents is ofEntries with what it takes for each field or value, and for each byte.
func ofContents(key string, n, each, item, bytes float64) Estimate {
	return Estimate{Asks: []command.Command{eval(entriesScript, []string{key}, decimal(n), decimal(each), decimal(item), decimal(bytes))}, cost: linear(1)}
}

// ofGroups is the estimate of a command about the groups of a stream, in nanoseconds
// for each of them, and for each consumer and each pending entry of one of them, or of
// all where group is empty. Each of these shows most of its pending entries.
func ofGroups(key, group string, groups, consumers, pending, most float64) Estimate {
	return Estimate{
		Asks: []command.Command{eval(groupsScript, []string{key}, group, decimal(groups), decimal(consumers), decimal(pending), decimal(most))},
		cost: linear(1), Instead: "fewer groups, consumers or pending entries",
	}
}

// streamCost is the estimate of what is about a stream.
func streamCost(s *command.Spec, cmd command.Command) (Estimate, bool) {
	switch s.Name {
	case "xrange", "xrevrange":
		e := ofEntries(cmd[1], command.OptionNumber(cmd, "count", unlimited), perEntry)
		e.Instead = "a smaller COUNT"
		return e, true
	case "xread", "xreadgroup":
		return readCost(s, cmd), true
	case "xautoclaim":
		return claimCost(cmd), true
	case "xclaim":
		return Estimate{Base: perClaimed * float64(len(cmd)), Instead: "fewer entries"}, true
	case "xdel":
		return Estimate{Base: perDeleted * float64(len(cmd)), Instead: "fewer entries"}, true
	case "xpending":
		return pendingCost(cmd), true
	case "xtrim":
		e := ofAll(perPassed, "LIMIT", "XLEN", cmd[1])
		return e.and(Estimate{Asks: []command.Command{eval(nodesScript, cmd[1:2])}, cost: linear(perNode)}), true
	case "xinfo|stream":
		if len(cmd) < 4 {
			return Estimate{}, true
		}
		n := command.OptionNumber(cmd, "count", fullEntries)
		if n <= 0 {
			n = unlimited
		}
		e := ofEntries(cmd[2], n, perEntry).and(ofGroups(cmd[2], "", perGroup, perConsumer, perPending, n))
		e.Instead = "XINFO GROUPS and XINFO CONSUMERS, or a smaller COUNT"
		return e, true
	case "xinfo|groups":
		return ofGroups(cmd[2], "", perGroup, 0, 0, 0), true
	case "xinfo|consumers":
		return ofGroups(cmd[2], cmd[3], 0, perConsumer, 0, 0), true
	case "xgroup|destroy":
		e := ofGroups(cmd[2], cmd[3], 0, perConsumer, perPending, unlimited)
		e.Instead = "XACK for what is pending, and XGROUP DELCONSUMER, before that"
		return e, true
	case "xgroup|delconsumer":
		e := ofGroups(cmd[2], cmd[3], 0, 0, perForgotten, unlimited)
		e.Instead = "XACK for what is pending before that"
		return e, true
	}
	return Estimate{}, false
}

// readCost is the estimate of XREAD and XREADGROUP.
func readCost(s *command.Spec, cmd command.Command) (e Estimate) {
	options, group := 1, ""
	if s.Name == "xreadgroup" {
		options, group = 4, cmd[2] // after GROUP, a name and a name
	}
	at := slices.IndexFunc(cmd[options:], func(word string) bool { return strings.EqualFold(word, "streams") })
	if at < 0 {
		return Estimate{}
	}
	given, rest := append(command.Command{"", ""}, cmd[options:options+at]...), cmd[options+at+1:]
	n := command.OptionNumber(given, "count", unlimited)
	if n <= 0 {
		n = unlimited // Redis takes 0 for no limit
	}

	keys, ids := rest[:len(rest)/2], rest[len(rest)/2:]
	for i, key := range keys {
		each := float64(perEntry)
		switch {
		case ids[i] == "$" || ids[i] == "+":
			continue // nothing that is there
		case s.Name == "xread":
		case ids[i] != ">":
			if each = perEntry + perRedelivered; n > command.BriefRange {
				e = e.and(ofGroups(key, group, 0, 0, perRedelivered, n))
				each = perEntry
			}
		case command.Option(given, "noack") == 0:
			each += perDelivered
		}
		if len(keys) > fewStreams && n > command.BriefRange {
			more := ofAll(each, "", "XLEN", key)
			e = e.and(more.limited(n))
		} else {
			e = e.and(ofEntries(key, n, each))
		}
	}
	e.Instead = "a smaller COUNT"
	return e
}

// claimCost is the estimate of XAUTOCLAIM. XLEN does not tell how many entries are
// pending, for some may be deleted.
func claimCost(cmd command.Command) Estimate {
	n := command.OptionNumber(cmd, "count", 100)
	e := Estimate{Base: perClaimed * n}
	if n > command.BriefRange {
		passed := ofGroups(cmd[1], cmd[2], 0, 0, perUnclaimed, unlimited)
		e = e.and(passed.atMost(passedOver * n * perUnclaimed)).and(ofEntries(cmd[1], n, 0))
	}
	e.Instead = "a smaller COUNT"
	return e
}

// pendingCost is the estimate of XPENDING: of its summary, or of some entries.
func pendingCost(cmd command.Command) Estimate {
	if len(cmd) < 6 {
		e := ofGroups(cmd[1], cmd[2], 0, perConsumer, 0, 0)
		e.Instead = "XPENDING with a range and a count"
		return e
	}
	count := cmd[5] // after the key, the group and a range
	var passed Estimate
	if strings.EqualFold(cmd[3], "idle") && len(cmd) > 7 {
		count = cmd[7]
		passed = ofGroups(cmd[1], cmd[2], 0, 0, perPending, unlimited) // until there are enough that are idle
	}
	e := Estimate{Base: 2 * perEntry * command.Number(count)}.and(passed)
	e.Instead = "a smaller count, without IDLE"
	return e
}
