package command

import (
	"strconv"
	"strings"
)

// briefWrites take a time that does not grow with the data, and are not in Redis' category
// @fast. Redis calls them slow because they may free a value that they replace, which
// another thread does here (lazyfree-lazy-server-del, lazyfree-lazy-user-del; manual, "Lazy
// freeing").
var briefWrites = SetOf(
	"set", "setex", "psetex", "getset", "mset", "msetnx", "append", "setbit", "del", "rename",
)

// Brief reports whether a command takes a short time, whatever the data is.
func (s *Spec) Brief() bool {
	return !s.Blocking && !s.Module && !s.AnyKey && (s.In("fast") || briefWrites[s.Name])
}

// BriefRange is how many elements, from one end, a brief command may pass over or take.
// BriefWords is how many words it may have, and briefBits how far a bit may be from the
// beginning: a string grows up to there.
const (
	BriefRange    = 100
	BriefWords    = 5000
	BriefTogether = 10 * BriefWords // in all commands of a request
	briefBits     = 8 << 20
	briefClaims   = 8 // words of XCLAIM and XDEL, of which each entry takes as long as ten other words
)

// counted are the commands whose time follows from a number among their words, or from how
// many these are, although Redis calls them fast.
var counted = SetOf("spop", "lpop", "rpop", "zpopmin", "zpopmax", "setbit", "xautoclaim", "xclaim", "xdel", "mget", "hmget", "lolwut")

// Few reports whether a Counted command takes a short time with these words.
func (s *Spec) Few(cmd Command) bool {
	switch {
	case s.Name == "xautoclaim":
		return OptionNumber(cmd, "count", 0) <= BriefRange
	case s.Name == "xclaim", s.Name == "xdel":
		return len(cmd) <= briefClaims
	case s.Name == "mget", s.Name == "hmget":
		return len(cmd) <= 2*MaxNamed || !repeats(cmd[1:])
	case s.Name == "lolwut":
		return len(cmd) <= 3 // with its version and no size
	case len(cmd) < 3:
		return true
	case s.Name == "setbit":
		return Number(cmd[2]) < briefBits
	}
	return Number(cmd[2]) <= BriefRange
}

// BriefFor reports whether a command takes a short time with these words. That includes one
// of a few elements at an end, such as the newest ten of a list.
func (s *Spec) BriefFor(cmd Command) bool {
	if s.Brief() {
		return len(cmd) <= BriefWords && (!s.Counted || s.Few(cmd))
	}
	switch {
	case (s.Name == "lrange" || s.Name == "zrange" || s.Name == "zrevrange") && len(cmd) == 4:
		first, err := strconv.Atoi(cmd[2])
		last, err2 := strconv.Atoi(cmd[3])
		if err != nil || err2 != nil || (first < 0) != (last < 0) {
			return false
		}
		return -BriefRange <= min(first, last) && max(first, last) < BriefRange
	case s.Name == "lindex" && len(cmd) == 3:
		at, err := strconv.Atoi(cmd[2])
		return err == nil && -BriefRange <= at && at < BriefRange
	}
	return false
}

// RunsScript reports whether a command runs a script or a function of a user's.
func (s *Spec) RunsScript() bool {
	return strings.HasPrefix(s.Name, "eval") || strings.HasPrefix(s.Name, "fcall")
}

// CursorAt returns the place of a command's cursor among its words; 0 if it has none.
func CursorAt(name string) int {
	switch {
	case len(name) == 4 && strings.EqualFold(name, "scan"):
		return 1
	case len(name) == 5 && strings.EqualFold(name[1:], "scan") && strings.ContainsAny(name[:1], "hszHSZ"):
		return 2
	}
	return 0
}

// Waits reports whether a command would wait for data. One that Redis refuses for the number
// of its arguments does not.
func (s *Spec) Waits(cmd Command) bool { return s.BlockingFor(cmd) && s.Takes(cmd) }
