package redis

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// Kind says what a failed operation did to the data.
type Kind int

// The kinds of failure.
const (
	// NotExecuted: the operation certainly did nothing; it was held until its
	// deadline without a master that would take it.
	NotExecuted Kind = iota + 1
	// Unknown: a write was sent and may have happened, or it happened and
	// fewer replicas than required have confirmed it. It is neither a success
	// nor a failure.
	Unknown
	// GivenUp: the operation only reads, it was under way at a node, and it is
	// not repeated. Nothing was changed.
	GivenUp
	// TooLong: the operation only reads, and its answer is longer than
	// Config.MaxAnswer. Nothing was changed.
	TooLong
	// Crowded: the operation only reads, and there was no room for its answer, which
	// is a long one. Nothing was changed.
	Crowded
	// Withheld: the operation was carried out, and its answer is too long, or there
	// was no room for it.
	Withheld
	// Overloaded: too many operations are held already; nothing was done.
	Overloaded
	// Invalid: the operation itself cannot be; nothing was done.
	Invalid
	// Refused: Redis answered with an error that another try would not
	// change; nothing was done.
	Refused
)

// Error is how every operation of a Client fails.
type Error struct {
	Kind  Kind
	Cause error
}

// Error says in a person's words what happened, and why.
func (e *Error) Error() string {
	var what string
	switch e.Kind {
	case NotExecuted:
		what = "not executed"
	case Unknown:
		what = "the outcome is unknown"
	case GivenUp:
		what = "given up"
	case TooLong:
		what = "the answer is too long"
	case Crowded:
		what = "too many long answers are on their way"
	case Withheld:
		what = "carried out, and its answer is not given"
	case Overloaded:
		what = "overloaded, not executed"
	case Invalid:
		what = "invalid"
	case Refused:
		what = "refused by Redis"
	}
	if e.Cause == nil {
		return what
	}
	return what + ": " + e.Cause.Error()
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf is the kind of an operation's error; 0 when it is none of this
// package.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

var (
	errNoMaster    = errors.New("no Redis master was found in time")
	errNoTurn      = errors.New("its turn did not come in time, or there was no Redis master")
	errTooManyHeld = errors.New("too many requests wait for a Redis master")
	errTooManySlow = fmt.Errorf("%d commands of this sender that are not brief wait already", maxWaitingSlow)
	errReservedKey = fmt.Errorf("keys that start with %q are Holdfast's own", reservedPrefix)
	errClosed      = errors.New("the client has ended")
	errLost        = errors.New("the connection to the Redis master was lost before its answer")
	errNoAck       = errors.New("neither the master nor enough replicas confirmed the write in time")
	errUncertain   = errors.New("no majority of Sentinels was heard, and not every other node is a replica of the master")
	errNoAnswer    = errors.New("the Redis node did not answer in time")
	errOwnAnswers  = errors.New("they are its own client's")
	errRoom        = errors.New("there is no room for it")
	errNoCommand   = errors.New("ERR empty command")
	errStateful    = errors.New("ERR the command belongs to a connection of its own, and there is none here")
	errSilent      = errors.New("it does not answer")
	errNotSent     = errors.New("the connection was closed before anything was sent")
)

// redisError are Redis' own words to what it refused.
type redisError string

func (e redisError) Error() string { return string(e) }

// retryable says that the refusal is of this moment or this node.
func (e redisError) retryable() bool {
	return retryable(string(e))
}

// wordsOf are an error reply's words as Redis sent them. The client library's
// error leaves out "ERR ", which cannot be put back without a guess.
func wordsOf(m rueidis.RedisMessage) error {
	words, _ := m.ToString()
	return redisError(words)
}

// Words are Redis' own words to what it refused, such as "ERR syntax error";
// empty when the error is none of Redis'.
func Words(err error) string {
	var words redisError
	errors.As(err, &words)
	return string(words)
}

// fate is what became of one command, as far as its answer tells.
type fate int

const (
	executed fate = iota // it happened
	retry                // it certainly did not happen, and may elsewhere or later
	refused              // it certainly did not happen, and will not
	lost                 // nobody knows
)

// laterWords begin the refusals of a node that will not take a command now: it
// is no longer or not yet the master, or has no replica (Redis 7.0, server.c,
// createSharedObjects; cluster.c, clusterRedirectClient; blocked.c). Nothing
// happened then. The code alone does not tell: a script of a user's may word
// its own errors, after it has written.
var laterWords = map[string][]string{
	"READONLY":    {"You can't write against a read only replica."},
	"LOADING":     {"Redis is loading the dataset in memory"},
	"MASTERDOWN":  {"Link with MASTER is down"},
	"NOREPLICAS":  {"Not enough good replicas to write."},
	"CLUSTERDOWN": {""}, // several; no script of a user's has a reason for it
	"TRYAGAIN":    {"Multiple keys request during rehashing of slot"},
	"BUSY":        {"Redis is busy running a script"},
	"UNBLOCKED":   {"force unblock from blocking operation"},
	// Its disk is full, most often: another node may be made master, or there
	// is room again.
	"MISCONF": {"Errors writing to the AOF file", "Redis is configured to save RDB snapshots"},
}

// retryable says that a refusal is of this moment or this node.
func retryable(words string) bool {
	code, rest, _ := strings.Cut(words, " ")
	return slices.ContainsFunc(laterWords[code], func(begin string) bool {
		// Valkey says its own name.
		return strings.HasPrefix(rest, begin) || strings.HasPrefix(rest, strings.Replace(begin, "Redis", "Valkey", 1))
	})
}

// fateOf reads the answer to a command. sent is false when nothing of it can
// have left this process.
func fateOf(err error, sent bool) fate {
	if err == nil || rueidis.IsRedisNil(err) {
		return executed
	}
	if reply, ok := rueidis.IsRedisErr(err); ok {
		if retryable(reply.Error()) {
			return retry
		}
		return refused
	}
	if !sent {
		return retry
	}
	return lost
}
