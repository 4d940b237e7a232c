package redis

import (
	"cmp"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// An operation that a node had when it fell silent may have silenced it. Repeated on
// the next master, it would silence that one too, and after three nodes none is left.
// If the node died or closed the connection, its operations are repeated within the
// request's time. But an operation may also have killed the node: if a second node dies
// with it, no third one gets it.

// Why an operation is not repeated.
var (
	errSilenced = errors.New("the Redis node fell silent while it carried this out, and it is not sent to another one, which it might silence as well")
	errKilled   = errors.New("two Redis nodes ended or were replaced while they carried this out, and it is not sent to another one, which it might end as well")
)

// briefWrites take a time that does not grow with the data that is there, and
// are not in Redis' category @fast: those that Redis calls slow because they may
// free a value that they replace, which Redis frees on another thread here
// (lazyfree-lazy-server-del, lazyfree-lazy-user-del; manual, "Lazy freeing").
var briefWrites = setOf(
	"set", "setex", "psetex", "getset", "mset", "msetnx", "append", "setbit", "del", "rename",
)

// brief reports whether a command takes a short time, whatever the data is.
func (s *Spec) brief() bool {
	return !s.Blocking && !s.module && !s.AnyKey && (s.In("fast") || briefWrites[s.Name])
}

// briefRange is how many elements, from one end, a brief command may pass over or
// take. briefWords is how many words it has at most, and briefBits where a bit may
// be: a string grows up to there.
const (
	briefRange    = 100
	briefWords    = 5000
	briefTogether = 10 * briefWords // in all commands of a request
	briefBits     = 8 << 20
	briefClaims   = 8 // words of XCLAIM and XDEL, of which each entry takes as long as ten other words
)

// counted take as long as a number among their words says, though Redis calls them
// fast.
var counted = setOf("spop", "lpop", "rpop", "zpopmin", "zpopmax", "setbit", "xautoclaim", "xclaim", "xdel", "mget", "hmget", "lolwut")

// few reports whether one of them takes a short time with these words.
func (s *Spec) few(cmd Command) bool {
	switch {
	case s.Name == "xautoclaim":
		return optionNumber(cmd, "count", 0) <= briefRange
	case s.Name == "xclaim", s.Name == "xdel":
		return len(cmd) <= briefClaims
	case s.Name == "mget", s.Name == "hmget":
		return len(cmd) <= 2*maxNamed || !repeats(cmd[1:])
	case s.Name == "lolwut":
		return len(cmd) <= 3 // with its version and no size
	case len(cmd) < 3:
		return true
	case s.Name == "setbit":
		return number64(cmd[2]) < briefBits
	}
	return number64(cmd[2]) <= briefRange
}

// BriefFor reports whether a command takes a short time with these words: also one
// of a few elements at an end, such as the newest ten of a list.
func (s *Spec) BriefFor(cmd Command) bool {
	if s.brief() {
		return len(cmd) <= briefWords && (!s.counted || s.few(cmd))
	}
	switch {
	case (s.Name == "lrange" || s.Name == "zrange" || s.Name == "zrevrange") && len(cmd) == 4:
		first, err := strconv.Atoi(cmd[2])
		last, err2 := strconv.Atoi(cmd[3])
		if err != nil || err2 != nil || (first < 0) != (last < 0) {
			return false
		}
		return -briefRange <= min(first, last) && max(first, last) < briefRange
	case s.Name == "lindex" && len(cmd) == 3:
		at, err := strconv.Atoi(cmd[2])
		return err == nil && -briefRange <= at && at < briefRange
	}
	return false
}

// runsScript reports whether a command runs a script or a function of a user's.
func (s *Spec) runsScript() bool {
	return strings.HasPrefix(s.Name, "eval") || strings.HasPrefix(s.Name, "fcall")
}

// loss is how the answer of a node was lost: the node fell silent, or it left, or
// this process has ended the connection for another reason.
type loss struct {
	node         string
	silent, left bool
}

func (s *session) loss() loss {
	silent := s.silent()
	replaced := silent && s.replaced()
	return loss{node: s.master, silent: silent && !replaced, left: replaced || s.wire != nil && s.wire.left.Load()}
}

// replaced reports whether the node is no master any more, and has replied to the
// monitor at once as long as the operations were under way. Then the session ended
// because of a switchover, and nothing has silenced the node. The session may be the
// first to know, by the node's refusals. And a new master is named some time before the
// Sentinels turn the old one into its replica.
func (s *session) replaced() bool {
	now, _ := s.w.monitor.now()
	if now.DownAfter < steadyInterval { // the Sentinels are quicker than the rounds
		return false
	}
	node, another := now.Node(s.master), now.Master != "" && now.Master != s.master
	return node.Answered && (s.answered || another || !node.Master) && node.SilentAt.Before(s.began)
}

// mayRepeat reports whether an operation whose answer was lost may be sent
// again: to the next master, and if the node had fallen silent, once, and only
// when it is brief.
func (o *operation) mayRepeat(l loss) bool {
	if !l.silent && !l.left {
		return true
	}
	o.lostAt = cmp.Or(o.lostAt, l.node)
	if l.silent {
		o.silences++
		return o.brief && o.silences == 1 && o.lostAt == l.node
	}
	return o.lostAt == l.node
}

// lose deals with an operation that was sent and has no answer. A write without
// a record may have happened, and must not happen twice.
func (o *operation) lose(cause error, l loss) next {
	o.cause = cause
	o.sent = o.sent || o.writes
	if (!o.writes || o.record != "") && o.mayRepeat(l) {
		return repeat
	}
	o.finish(o.lost(cause, l))
	return decided
}

// lost is the outcome of an operation that has no answer and is not repeated.
func (o *operation) lost(cause error, l loss) *Error {
	switch {
	case o.sent:
		return &Error{Kind: Unknown, Cause: cause}
	case l.left:
		return &Error{Kind: GivenUp, Cause: errKilled}
	}
	return &Error{Kind: GivenUp, Cause: errSilenced}
}

// silent reports whether the session's connection ended because the node did not reply
// for some time. The connection may also end with the node itself, or when another node
// becomes the master in a switchover.
func (s *session) silent() bool {
	return s.wire == nil || !s.wire.left.Load() && s.took >= max(leastSilence, 2*s.w.slice())
}

// leastSilence is how long a node without a reply had the commands, at the least, if
// these may have silenced it. It is longer than a WAIT takes, and shorter than the time
// after which Sentinels replace a master.
const leastSilence = 100 * time.Millisecond

// dialling reports whether an error occurred while a connection was being made, so
// that nothing was sent.
func dialling(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// timedOut reports whether a connection ended because the other end sent nothing more.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
