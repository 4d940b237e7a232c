package redis

import (
	"slices"
	"strings"
)

// streamCost is the estimate of what is about a stream.
func (s *Spec) streamCost(cmd Command) (estimate, bool) {
	switch s.Name {
	case "xrange", "xrevrange":
		e := ofAll(perEntry, "COUNT", "XLEN", cmd[1])
		return e.limited(optionNumber(cmd, "count", unlimited)), true
	case "xread", "xreadgroup":
		options := 1
		if s.Name == "xreadgroup" {
			options = 4 // after GROUP, a name and a name
		}
		at := slices.IndexFunc(cmd[options:], func(word string) bool { return strings.EqualFold(word, "streams") })
		if at < 0 {
			return estimate{}, true
		}
		given, rest := append(Command{"", ""}, cmd[options:options+at]...), cmd[options+at+1:]
		var old []string // streams that are not read from their end
		for i, id := range rest[len(rest)/2:] {
			if id != "$" && id != "+" && i < len(rest)/2 {
				old = append(old, rest[i])
			}
		}
		if len(old) == 0 {
			return estimate{}, true
		}
		e := ofKeys(old, "XLEN")
		e.cost, e.instead = linear(perEntry), "COUNT"
		return e.limited(optionNumber(given, "count", unlimited) * float64(len(old))), true
	case "xautoclaim": // XLEN does not tell how many are pending, for some may be deleted
		return estimate{base: perClaimed * optionNumber(cmd, "count", 100), instead: "a smaller COUNT"}, true
	case "xclaim":
		return estimate{base: perClaimed * float64(len(cmd)), instead: "fewer entries"}, true
	case "xdel":
		return estimate{base: perDeleted * float64(len(cmd)), instead: "fewer entries"}, true
	case "xpending":
		if len(cmd) < 6 {
			return estimate{}, true
		}
		count := cmd[5] // after the key, the group and a range
		if strings.EqualFold(cmd[3], "idle") && len(cmd) > 7 {
			count = cmd[7]
		}
		return estimate{base: 2 * perEntry * number64(count), instead: "a smaller count"}, true
	case "xtrim":
		return ofAll(perPassed, "LIMIT", "XLEN", cmd[1]), true
	case "xinfo|stream":
		at := option(cmd, "count")
		if at == 0 || at+1 >= len(cmd) {
			return estimate{}, true
		}
		e := ofAll(perEntry, "COUNT", "XLEN", cmd[2])
		if n := number64(cmd[at+1]); n > 0 {
			e = e.limited(n)
		}
		return e, true
	case "xgroup|destroy":
		return ofAll(perPassed*4, "shorter streams", "XLEN", cmd[2]), true
	}
	return estimate{}, false
}
