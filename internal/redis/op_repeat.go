package redis

import (
	"cmp"
	"errors"
)

// An operation that a node had when it fell silent may have silenced it. Repeated on the next
// master, it would silence that one too, and after three nodes none is left. If the node died or
// closed the connection, its operations are repeated within the request's time. But an operation
// may also have killed the node: if a second node dies with it, no third one gets it.

// Why an operation is not repeated.
var (
	errSilenced = errors.New("the Redis node fell silent while it carried this out, and it is not sent to another one, which it might silence as well")
	errKilled   = errors.New("two Redis nodes ended or were replaced while they carried this out, and it is not sent to another one, which it might end as well")
)

// loss is how the answer of a node was lost: the node fell silent, or it left, or this process has
// ended the connection for another reason.
type loss struct {
	node         string
	silent, left bool
}

// mayRepeat reports whether an operation whose answer was lost may be sent again, to the next
// master. If the node had fallen silent, a brief operation may be sent again once.
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

// lose returns what becomes of an operation that was sent and has no answer. A write without a
// record may have happened, and must not happen twice.
func (o *operation) lose(cause error, l loss) next {
	o.cause = cause
	o.sent = o.sent || o.writes
	if (!o.writes || o.record != "") && o.mayRepeat(l) {
		return repeat
	}
	o.finish(o.lost(cause, l))
	return decided
}

// lost returns the outcome of an operation that has no answer and is not repeated.
func (o *operation) lost(cause error, l loss) *Error {
	switch {
	case o.sent:
		return &Error{Kind: Unknown, Cause: cause}
	case l.left:
		return &Error{Kind: GivenUp, Cause: errKilled}
	}
	return &Error{Kind: GivenUp, Cause: errSilenced}
}
