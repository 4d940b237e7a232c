package command

import (
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// KeySpec tells where some of a command's keys are (manual, "Key
// specifications").
type KeySpec struct {
	begin   searchKind
	index   int    // of the first key, or where the search for the keyword starts
	keyword string // upper or lower case
	find    findKind
	last    int // of a range: the last key after the first; negative: from the end
	step    int
	limit   int // of a range up to the end: it takes one part in so many
	// Of a counted list: where the count stands and where the keys begin,
	// both after index.
	count, first int
	incomplete   bool // there may be keys that it does not tell
}

type searchKind int

const (
	atUnknown searchKind = iota
	atIndex
	atKeyword
)

type findKind int

const (
	findUnknown findKind = iota
	findRange
	findCounted
)

// Keys returns the keys that a command names. It returns false if Redis' description does
// not tell them, or the command's count of them is not a number.
func (s *Spec) Keys(cmd Command) ([]string, bool) {
	var keys []string
	for i := range s.KeySpecs {
		var ok bool
		if keys, ok = s.KeySpecs[i].Collect(keys, cmd); !ok {
			return nil, false
		}
	}
	return keys, true
}

// Collect adds the keys that the specification tells of.
func (k *KeySpec) Collect(keys []string, cmd Command) ([]string, bool) {
	if k.incomplete || k.find == findUnknown {
		return nil, false
	}
	switch k.begin {
	case atIndex:
		return k.collectFrom(keys, cmd, k.index)
	case atKeyword:
		start, step := k.index, 1
		if start < 0 {
			start, step = len(cmd)+start, -1
		}
		for i := start; i >= 1 && i < len(cmd); i += step {
			if !strings.EqualFold(cmd[i], k.keyword) {
				continue
			}
			var ok bool
			if keys, ok = k.collectFrom(keys, cmd, i+1); !ok {
				return nil, false
			}
			// A keyword of one key may stand twice (GEORADIUS … STORE a STORE
			// b): Redis takes the last, and nobody shall hide one from us.
			if k.find != findRange || k.last != 0 {
				break
			}
		}
		return keys, true
	}
	return nil, false
}

func (k *KeySpec) collectFrom(keys []string, cmd Command, first int) ([]string, bool) {
	step := max(k.step, 1)
	last := first + k.last
	switch k.find {
	case findRange:
		if k.last < 0 {
			last = len(cmd) + k.last
			if k.limit > 1 {
				last = first + (len(cmd)-first)/k.limit + k.last
			}
		}
	case findCounted:
		if first+k.count >= len(cmd) {
			return keys, true // too few arguments: Redis will say so
		}
		n, err := strconv.Atoi(cmd[first+k.count])
		if err != nil || n < 0 || n > len(cmd) || cmd[first+k.count][0] == '+' {
			return nil, false
		}
		first += k.first
		last = first + (n-1)*step
	}
	for i := first; i <= last && i < len(cmd); i += step {
		keys = append(keys, cmd[i])
	}
	return keys, true
}

// toldAll has the commands of which Redis 8.0 claims that it does not tell all keys, and 7.0 did
// not: a keyword may stand twice, or be the name of a stream. Collect sees to the first, and
// XREAD and XREADGROUP have no names before the keyword except those that the specification
// passes over.
var toldAll = SetOf("xread", "xreadgroup", "georadius", "georadiusbymember")

// parseKeys reads a command's key specifications; of a Redis older than 7,
// which has none, the range of keys.
func parseKeys(f []rueidis.RedisMessage, flags []string) []KeySpec {
	if len(f) <= 8 {
		first, _ := f[3].AsInt64()
		last, _ := f[4].AsInt64()
		step, _ := f[5].AsInt64()
		switch {
		case slices.Contains(flags, "movablekeys"):
			return []KeySpec{{incomplete: true}}
		case first == 0:
			return nil
		}
		if last >= 0 {
			last -= first
		}
		return []KeySpec{{begin: atIndex, index: int(first), find: findRange, last: int(last), step: int(step)}}
	}
	var specs []KeySpec
	name, _ := f[0].ToString()
	name = strings.ToLower(name)
	list, _ := f[8].ToArray()
	for _, entry := range list {
		fields, _ := entry.AsMap()
		about := words(fields["flags"])
		if slices.Contains(about, "not_key") {
			continue // a channel
		}
		k := KeySpec{incomplete: slices.Contains(about, "incomplete") && !toldAll[name]}
		kind, spec := part(fields["begin_search"])
		switch kind {
		case "index":
			k.begin, k.index = atIndex, integer(spec["index"])
		case "keyword":
			k.begin, k.index = atKeyword, integer(spec["startfrom"])
			keyword := spec["keyword"]
			k.keyword, _ = keyword.ToString()
		}
		kind, spec = part(fields["find_keys"])
		switch kind {
		case "range":
			k.find = findRange
			k.last, k.step, k.limit = integer(spec["lastkey"]), integer(spec["keystep"]), integer(spec["limit"])
		case "keynum":
			k.find = findCounted
			k.count, k.first, k.step = integer(spec["keynumidx"]), integer(spec["firstkey"]), integer(spec["keystep"])
		}
		specs = append(specs, k)
	}
	return specs
}

// part is one half of a key specification: its type and its numbers.
func part(m rueidis.RedisMessage) (string, map[string]rueidis.RedisMessage) {
	fields, _ := m.AsMap()
	name := fields["type"]
	kind, _ := name.ToString()
	spec := fields["spec"]
	numbers, _ := spec.AsMap()
	return kind, numbers
}

func integer(m rueidis.RedisMessage) int {
	n, _ := m.AsInt64()
	return int(n)
}
