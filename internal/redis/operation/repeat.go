package operation

import (
	"cmp"
	"errors"

	"holdfast/internal/redis/outcome"
)

// An operation that a node had when it fell silent may have silenced it. Repeated on the next
// master, it would silence that one too, and after three nodes none is left. If the node died or
// closed the connection, its operations are repeated within the request's time. But an operation
// may also have killed the node: if a second node dies with it, no third one gets it.

// Why an operation is not repeated.
var (
	ErrSilenced = errors.New("the Redis node fell silent while it carried this out, and it is not sent to another one, which it might silence as well")
	errKilled   = errors.New("two Redis nodes ended or were replaced while they carried this out, and it is not sent to another one, which it might end as well")
)

// Loss is how the answer of a node was lost: the node fell silent, or it left, or this process has
// ended the connection for another reason.
type Loss struct {
	Node         string
	Silent, Left bool
}

// MayRepeat reports whether an operation whose answer was lost may be sent again, to the next
// master. If the node had fallen silent, a brief operation may be sent again once.
func (o *Operation) MayRepeat(l Loss) bool {
	if !l.Silent && !l.Left {
		return true
	}
	o.lostAt = cmp.Or(o.lostAt, l.Node)
	if l.Silent {
		o.Silences++
		return o.Brief && o.Silences == 1 && o.lostAt == l.Node
	}
	return o.lostAt == l.Node
}

// Lose returns what becomes of an operation that was sent and has no answer. A write without a
// record may have happened, and must not happen twice.
func (o *Operation) Lose(cause error, l Loss) Next {
	o.Cause = cause
	o.Sent = o.Sent || o.Writes
	if (!o.Writes || o.Record != "") && o.MayRepeat(l) {
		return Repeat
	}
	o.Finish(o.Lost(cause, l))
	return Decided
}

// Lost returns the outcome of an operation that has no answer and is not repeated.
func (o *Operation) Lost(cause error, l Loss) *outcome.Error {
	switch {
	case o.Sent:
		return &outcome.Error{Kind: outcome.Unknown, Cause: cause}
	case l.Left:
		return &outcome.Error{Kind: outcome.GivenUp, Cause: errKilled}
	}
	return &outcome.Error{Kind: outcome.GivenUp, Cause: ErrSilenced}
}
