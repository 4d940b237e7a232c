package redis

import (
	"cmp"
	"errors"
	"net"
	"time"

	"holdfast/internal/redis/discovery"
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

// loss is how the answer of a node was lost: the node fell silent, or it left, or
// this process has ended the connection for another reason.
type loss struct {
	node         string
	silent, left bool
}

func (s *session) loss() loss {
	silent := s.silent()
	replaced := silent && s.replaced()
	return loss{node: s.master, silent: silent && !replaced, left: replaced || s.wire != nil && s.wire.Left.Load()}
}

// replaced reports whether the node is no master any more, and has replied to the
// monitor at once as long as the operations were under way. Then the session ended
// because of a switchover, and nothing has silenced the node. The session may be the
// first to know, by the node's refusals. And a new master is named some time before the
// Sentinels turn the old one into its replica.
func (s *session) replaced() bool {
	now, _ := s.w.monitor.Now()
	if now.DownAfter < discovery.SteadyInterval { // the Sentinels are quicker than the rounds
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
	return s.wire == nil || !s.wire.Left.Load() && s.took >= max(leastSilence, 2*s.w.slice())
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
