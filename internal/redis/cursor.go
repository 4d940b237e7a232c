package redis

import (
	"crypto/sha1"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
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
var ErrCursorGone error = redisError("ERR invalid cursor: the Redis process that is the master now did not give it, as after a failover or a restart of Redis; begin again with the cursor 0")

// errCursorTooBig: it has no room for what is added to it.
var errCursorTooBig = redisError("ERR the cursor of Redis is too big to be told from another process'")

// wordsOfNoCursor are Redis' to a cursor that is no number.
const wordsOfNoCursor = "ERR invalid cursor"

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
	own     whose = iota // this process', or 0, with which everybody begins
	foreign              // another's
	nobodys              // it is no number
)

// take is Redis' cursor in one that a client sent.
func (o origin) take(cursor string) (raw string, by whose) {
	n, err := strconv.ParseUint(cursor, 10, 64)
	switch {
	case err != nil && cursor == "":
		return cursor, own // 0, to Redis
	case err != nil:
		return "", nobodys
	case n == 0:
		return cursor, own
	case n>>originBits == 0 || origin(n&(1<<originBits-1)) != o:
		return "", foreign
	}
	return strconv.FormatUint(n>>originBits, 10), own
}

// give is the cursor that a client gets for Redis' one. It answers false where
// there is no room for the origin.
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

// cursorAt is the place of a command's cursor among its words; 0: it has none.
func cursorAt(name string) int {
	switch {
	case len(name) == 4 && strings.EqualFold(name, "scan"):
		return 1
	case len(name) == 5 && strings.EqualFold(name[1:], "scan") && strings.ContainsAny(name[:1], "hszHSZ"):
		return 2
	}
	return 0
}

// hasCursor says that any of the commands has a cursor.
func hasCursor(cmds []Command) bool {
	for _, cmd := range cmds {
		if cursorAt(cmd[0]) > 0 {
			return true
		}
	}
	return false
}

// plain is a command of a client as this session's Redis is to get it. A cursor
// that is not its own goes there as one that Redis itself refuses, so that the
// command fails where it stands and the others of its transaction do not: see
// stamp.
func (s *session) plain(cmd Command) rueidis.Completed {
	at := cursorAt(cmd[0])
	if at == 0 || at >= len(cmd) {
		return plain(s.conn.B(), cmd)
	}
	raw, by := s.origin.take(cmd[at])
	if by != own {
		raw = "none"
	}
	return s.conn.B().Arbitrary(cmd[0]).Args(cmd[1:at]...).Args(raw).Args(cmd[at+1:]...).Build()
}

// stamp makes the cursors in the results of commands those of the process that
// gave them.
func (o origin) stamp(cmds []Command, results []Result) {
	for i := range results {
		at := cursorAt(cmds[i][0])
		if at == 0 || at >= len(cmds[i]) {
			continue
		}
		r := &results[i]
		switch {
		case r.Err != nil && Words(r.Err) == wordsOfNoCursor:
			if _, by := o.take(cmds[i][at]); by == foreign {
				r.Err = &Error{KindOf(r.Err), ErrCursorGone}
			}
		case r.Err == nil && r.Reply.Len() == 2:
			*r = o.stamped(r.Reply)
		}
	}
}

// stamped is one answer with a cursor: the cursor, and what was found.
func (o origin) stamped(r Reply) Result {
	next := r.At(0)
	if next.Text() == "0" {
		return Result{Reply: r}
	}
	cursor, ok := o.give(next.Text())
	if !ok {
		return Result{Err: &Error{Refused, errCursorTooBig}}
	}
	return Result{Reply: withCursor(cursor, r.At(1))}
}

// withCursor is an answer of a cursor and of what was found.
func withCursor(cursor string, found Reply) Reply {
	return Reply{made: &madeReply{kind: Array, items: []Reply{{made: &madeReply{kind: Text, text: cursor}}, found}}}
}
