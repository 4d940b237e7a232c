package rewrite

import (
	"crypto/sha1"
	"encoding/binary"
	"strconv"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

// A cursor of SCAN, HSCAN, SSCAN and ZSCAN is a place in a hash table whose hash function has a
// seed of its own in each Redis process. Another process, such as the next master or the same
// one after a restart, accepts it without a word and leaves out keys that were there all the
// time. So the cursors that clients get name their process, in their number, since any web node
// may get the next request: the lowest bits are the process' origin, and those above are Redis'
// cursor. A cursor that comes back to another process is an error.
//
// Redis' own cursors are below the size of the table. With up to four billion entries the
// number stays below 2^53, for clients that keep it as a float. More entries need up to 63
// bits, as Redis documents of all cursors.

// ErrCursorGone is the error of a command with a cursor that the present master did not give.
var ErrCursorGone error = outcome.RedisError("ERR invalid cursor: the Redis process that is the master now did not give it, as after a failover or a restart of Redis; begin again with the cursor 0")

// ErrCursorTooBig is the error of a cursor that has no room for an origin.
var ErrCursorTooBig = outcome.RedisError("ERR the cursor of Redis is too big to be told from another process'")

// Origin stands for a Redis process in its cursors. Two processes have the same one once in
// two million.
type Origin uint64

const OriginBits = 21

// OriginOf returns the origin of a process, by its run_id. For a Redis that does not tell its
// run_id the caller takes its address: then a failover is noticed, and a restart is not.
func OriginOf(process string) Origin {
	sum := sha1.Sum([]byte(process))
	return Origin(binary.BigEndian.Uint64(sum[:]) >> (64 - OriginBits))
}

// whose is whose a cursor is that came from a client.
type whose int

const (
	own      whose = iota // this process', or 0, with which every iteration begins
	foreign               // another process'
	madeUp                // nobody's: a number that no process gives
	noCursor              // nobody's: it is not a number
)

// ForeignCursor is a cursor that no process gives.
const ForeignCursor = "1"

// ReadCursor returns a cursor's number, as Redis reads it (strtoul). begins reports
// whether it is 0, however it is written.
func ReadCursor(cursor string) (n uint64, begins, ok bool) {
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

// Take returns Redis' cursor in one that a client sent. If it is another process', Redis is
// asked from the beginning, so that it may refuse the rest of the command in its own words.
func (o Origin) Take(cursor string) (raw string, by whose) {
	switch n, begins, ok := ReadCursor(cursor); {
	case !ok:
		return "none", noCursor
	case begins:
		return cursor, own
	case n>>OriginBits == 0:
		return "0", madeUp
	case Origin(n&(1<<OriginBits-1)) != o:
		return "0", foreign
	default:
		return strconv.FormatUint(n>>OriginBits, 10), own
	}
}

// give returns the cursor that a client gets for Redis' cursor. It reports false if there is no
// room for the origin.
func (o Origin) give(raw string) (cursor string, ok bool) {
	n, err := strconv.ParseUint(raw, 10, 64)
	switch {
	case err != nil || n>>(63-OriginBits) != 0:
		return "", false
	case n == 0:
		return raw, true
	}
	return strconv.FormatUint(n<<OriginBits|uint64(o), 10), true
}

// HasCursor reports whether any of the commands has a cursor.
func HasCursor(cmds []command.Command) bool {
	for _, cmd := range cmds {
		if command.CursorAt(cmd[0]) > 0 {
			return true
		}
	}
	return false
}

// Stamp makes the results of commands what clients get. It leaves our own keys out, and puts the
// origin into the cursors. A command with a cursor of another process gets an error, and the
// other commands keep their results. With a number that no process gives, a hash, set or sorted
// set that has come whole is answered: Redis itself accepts any number for a small one.
func (o Origin) Stamp(cmds []command.Command, results []request.Result) {
	HideReserved(cmds, results)
	for i := range results {
		at := command.CursorAt(cmds[i][0])
		if at == 0 || at >= len(cmds[i]) {
			continue
		}
		if r := &results[i]; r.Err == nil && r.Reply.Len() == 2 {
			_, by := o.Take(cmds[i][at])
			*r = o.stamped(r.Reply, by, at > 1)
		}
	}
}

// stamped returns the result of one answer with a cursor: the cursor, and what was found. ofKey
// is true if the command is about one key.
func (o Origin) stamped(r resp.Reply, by whose, ofKey bool) request.Result {
	next := r.At(0)
	switch whole := next.Text() == "0"; {
	case by == foreign, by == madeUp && !(whole && ofKey):
		return request.Result{Err: &outcome.Error{Kind: outcome.Refused, Cause: ErrCursorGone}}
	case whole:
		return request.Result{Reply: r}
	}
	cursor, ok := o.give(next.Text())
	if !ok {
		return request.Result{Err: &outcome.Error{Kind: outcome.Refused, Cause: ErrCursorTooBig}}
	}
	return request.Result{Reply: WithCursor(cursor, r.At(1))}
}

// WithCursor returns an answer of a cursor and of what was found.
func WithCursor(cursor string, found resp.Reply) resp.Reply {
	return (&resp.Value{Kind: resp.Array, Items: []resp.Reply{(&resp.Value{Kind: resp.Text, Text: cursor}).Reply(), found}}).Reply()
}
