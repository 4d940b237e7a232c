package redis

import (
	"crypto/sha1"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// A cursor of SCAN, HSCAN, SSCAN and ZSCAN is a place in a hash table whose hash
// function has a seed of its own in each Redis process. Another process, the next
// master or the same one after a restart, takes it without a word and leaves out
// keys that were there all the time. So the cursors that leave this package say
// whose they are, in their number, since any web node may get the next request:
// the lowest bits are the process' origin, those above are Redis' cursor. One
// that comes back to another process is an error.
//
// Redis' own cursors are below the size of the table. With up to four billion
// entries the number stays below 2^53, for clients that keep it as a float; more
// need up to 63 bits, as Redis documents of all cursors.

// ErrCursorGone is why a command with a cursor is refused that the present master
// did not give.
var ErrCursorGone error = outcome.RedisError("ERR invalid cursor: the Redis process that is the master now did not give it, as after a failover or a restart of Redis; begin again with the cursor 0")

// errCursorTooBig: it has no room for what is added to it.
var errCursorTooBig = outcome.RedisError("ERR the cursor of Redis is too big to be told from another process'")

// origin stands for a Redis process in its cursors. Two processes have the same
// one once in two million.
type origin uint64

const originBits = 21

// originOf is the origin of a process, by its run_id. A Redis that does not say
// which process it is has its address for it: a failover is noticed then, and a
// restart is not.
func originOf(process string) origin {
	sum := sha1.Sum([]byte(process))
	return origin(binary.BigEndian.Uint64(sum[:]) >> (64 - originBits))
}

// whose says whose a cursor is, as it came from a client.
type whose int

const (
	own      whose = iota // this process', or 0, with which everybody begins
	foreign               // another's
	madeUp                // a number that no process gives
	noCursor              // it is no number
)

// foreignCursor is one that no process gives.
const foreignCursor = "1"

// readCursor returns a cursor's number, as Redis reads it (strtoul). begins reports
// whether it is 0, however it is written.
func readCursor(cursor string) (n uint64, begins, ok bool) {
	digits := cursor
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		digits = digits[1:]
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || len(digits) != len(cursor) && n != 0 {
		return 1, cursor == "", cursor == "" || err == nil
	}
	return n, n == 0, true
}

// take is Redis' cursor in one that a client sent. Where it is another's, Redis is
// asked from the beginning, so that it may have words of its own for the rest of the
// command.
func (o origin) take(cursor string) (raw string, by whose) {
	switch n, begins, ok := readCursor(cursor); {
	case !ok:
		return "none", noCursor
	case begins:
		return cursor, own
	case n>>originBits == 0:
		return "0", madeUp
	case origin(n&(1<<originBits-1)) != o:
		return "0", foreign
	default:
		return strconv.FormatUint(n>>originBits, 10), own
	}
}

// give returns the cursor that a client gets for Redis' cursor; false if there is no
// room for the origin.
func (o origin) give(raw string) (cursor string, ok bool) {
	n, err := strconv.ParseUint(raw, 10, 64)
	switch {
	case err != nil || n>>(63-originBits) != 0:
		return "", false
	case n == 0:
		return raw, true
	}
	return strconv.FormatUint(n<<originBits|uint64(o), 10), true
}

// hasCursor reports whether any of the commands has a cursor.
func hasCursor(cmds []Command) bool {
	for _, cmd := range cmds {
		if command.CursorAt(cmd[0]) > 0 {
			return true
		}
	}
	return false
}

// plain is a command of a client as this session's Redis is to get it.
func (s *session) plain(cmd Command) rueidis.Completed {
	at := command.CursorAt(cmd[0])
	switch {
	case s.w.recordDB == "" && len(cmd) == 1 && strings.EqualFold(cmd[0], "dbsize"):
		return s.conn.B().Eval().Script(countData).Numkeys(0).Arg(s.keptKeys()...).Build()
	case len(cmd) == 1 && strings.EqualFold(cmd[0], "randomkey"):
		return s.conn.B().Eval().Script(anyKey).Numkeys(0).Arg(command.ReservedPrefix).Build()
	case at == 0 || at >= len(cmd):
		return plain(s.conn.B(), cmd)
	}
	raw, _ := s.origin.take(cmd[at])
	return s.conn.B().Arbitrary(cmd[0]).Args(cmd[1:at]...).Args(raw).Args(cost.WithShortCount(cmd[at+1:])...).Build()
}

// stamp leaves our own keys out of the results of commands, and makes the cursors in
// them those of the process that gave them, and what was asked for with a cursor of another one an error: of that
// command alone. With a number that no process gives, a hash, set or sorted set that
// has come whole is answered: Redis itself takes any number for a small one.
func (o origin) stamp(cmds []Command, results []Result) {
	hideReserved(cmds, results)
	for i := range results {
		at := command.CursorAt(cmds[i][0])
		if at == 0 || at >= len(cmds[i]) {
			continue
		}
		if r := &results[i]; r.Err == nil && r.Reply.Len() == 2 {
			_, by := o.take(cmds[i][at])
			*r = o.stamped(r.Reply, by, at > 1)
		}
	}
}

// stamped is one answer with a cursor: the cursor, and what was found. ofKey says
// that it is about one key.
func (o origin) stamped(r resp.Reply, by whose, ofKey bool) Result {
	next := r.At(0)
	switch whole := next.Text() == "0"; {
	case by == foreign, by == madeUp && !(whole && ofKey):
		return Result{Err: &Error{Kind: Refused, Cause: ErrCursorGone}}
	case whole:
		return Result{Reply: r}
	}
	cursor, ok := o.give(next.Text())
	if !ok {
		return Result{Err: &Error{Kind: Refused, Cause: errCursorTooBig}}
	}
	return Result{Reply: withCursor(cursor, r.At(1))}
}

// withCursor is an answer of a cursor and of what was found.
func withCursor(cursor string, found resp.Reply) resp.Reply {
	return (&resp.Value{Kind: resp.Array, Items: []resp.Reply{(&resp.Value{Kind: resp.Text, Text: cursor}).Reply(), found}}).Reply()
}
