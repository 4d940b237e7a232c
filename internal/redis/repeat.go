package redis

import (
	"errors"
	"net"
	"strings"
)

// What a node had when it fell silent may be what silenced it. Repeated on the
// next master, it would silence that one too, and after three nodes nobody is
// left. A node that died or closed the connection is another case: what it had is
// repeated within the request's time, as ever.

// errSilenced is why an operation is not repeated.
var errSilenced = errors.New("the Redis node fell silent while it carried this out, and it is not sent to another one, which it might silence as well")

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

// runsScript reports whether a command runs a script or a function of a user's.
func (s *Spec) runsScript() bool {
	return strings.HasPrefix(s.Name, "eval") || strings.HasPrefix(s.Name, "fcall")
}

// mayRepeat reports whether an operation whose answer was lost may be sent
// again: to the next master, and if the node had fallen silent, once, and only
// when it is brief.
func (o *operation) mayRepeat(silent bool) bool {
	if !silent {
		return true
	}
	o.silences++
	return o.brief && o.silences == 1
}

// lose deals with an operation that was sent and has no answer. A write without
// a record may have happened, and must not happen twice.
func (o *operation) lose(cause error, silent bool) next {
	o.cause = cause
	o.sent = o.sent || o.writes
	if (!o.writes || o.record != "") && o.mayRepeat(silent) {
		return repeat
	}
	o.finish(o.lost(cause))
	return decided
}

// lost is the outcome of an operation that has no answer and is not repeated.
func (o *operation) lost(cause error) *Error {
	if o.sent {
		return &Error{Unknown, cause}
	}
	return &Error{GivenUp, errSilenced}
}

// silent reports whether the session's connection ended because the node did not
// answer, rather than by the node's own end.
func (s *session) silent() bool { return s.wire == nil || !s.wire.left.Load() }

// dialling reports whether an error is of the making of a connection: nothing was
// sent then.
func dialling(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// timedOut reports whether a connection ended because its other end was not
// heard any more.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
