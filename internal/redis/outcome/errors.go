// Package outcome is what became of an operation or of a single command: the kinds of
// failure that callers are told, and what Redis' refusals and lost answers mean. How an
// operation is tried again does not live here.
package outcome

import (
	"errors"
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// Kind is what a failed operation did to the data.
type Kind int

// The kinds of failure.
const (
	// NotExecuted: the operation certainly did nothing. It was held until its deadline, and
	// no master took it.
	NotExecuted Kind = iota + 1
	// Unknown: a write was sent and may have happened, or it happened and fewer replicas
	// than required have confirmed it. It is neither a success nor a failure.
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
	// Invalid: the operation is wrong in itself; nothing was done.
	Invalid
	// Refused: Redis replied with an error that another try would not change; nothing was
	// done.
	Refused
)

// Error is how every operation of a Client fails.
type Error struct {
	Kind  Kind
	Cause error
}

// Error returns what happened, and why, for a person to read.
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

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of an operation's error; 0 if it is not an *Error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

// Causes of errors.
var (
	ErrNoMaster    = errors.New("no Redis master was found in time")
	ErrTooManyHeld = errors.New("too many requests wait for a Redis master")
	ErrClosed      = errors.New("the client has ended")
	ErrLost        = errors.New("the connection to the Redis master was lost before its answer")
	ErrSilent      = errors.New("it does not answer")
	ErrNotSent     = errors.New("the connection was closed before anything was sent")
)

// RedisError is Redis' own words to what it refused.
type RedisError string

func (e RedisError) Error() string { return string(e) }

// Retryable reports whether the refusal is of this moment or this node.
func (e RedisError) Retryable() bool {
	return Retryable(string(e))
}

// WordsOf returns the words of an error reply as Redis sent them. The client library's
// error leaves out "ERR ", which cannot be put back without a guess.
func WordsOf(m rueidis.RedisMessage) error {
	words, _ := m.ToString()
	return RedisError(words)
}

// Words returns Redis' own words to what it refused, such as "ERR syntax error"; empty if
// the error is not one of Redis'.
func Words(err error) string {
	var words RedisError
	errors.As(err, &words)
	return string(words)
}

// Fate is what became of one command, as far as its answer tells.
type Fate int

const (
	Executed Fate = iota // it happened
	Later                // it certainly did not happen, and may elsewhere or later
	Rejected             // it certainly did not happen, and will not
	Lost                 // it is not known
)

// laterWords begin the refusals of a node that does not take a command now: it is no longer
// or not yet the master, or has no replica (Redis 7.0, server.c, createSharedObjects;
// cluster.c, clusterRedirectClient; blocked.c). Nothing happened then. The code alone is not
// enough: a user's script may word its own errors, after it has written.
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

// Retryable reports whether a refusal is of this moment or this node.
func Retryable(words string) bool {
	code, rest, _ := strings.Cut(words, " ")
	return slices.ContainsFunc(laterWords[code], func(begin string) bool {
		// Valkey says its own name.
		return strings.HasPrefix(rest, begin) || strings.HasPrefix(rest, strings.Replace(begin, "Redis", "Valkey", 1))
	})
}

// FateOf reads the error of a reply to a command. sent is false if nothing of the command
// can have left this process.
func FateOf(err error, sent bool) Fate {
	if err == nil || rueidis.IsRedisNil(err) {
		return Executed
	}
	if reply, ok := rueidis.IsRedisErr(err); ok {
		if Retryable(reply.Error()) {
			return Later
		}
		return Rejected
	}
	if !sent {
		return Later
	}
	return Lost
}

// LoginRefused reports whether a refused login is about who we are, which another try does
// not change. A refusal for too many clients, for one, is not.
func (e RedisError) LoginRefused() bool {
	code, _, _ := strings.Cut(string(e), " ")
	return code == "WRONGPASS" || code == "NOAUTH" || code == "NOPERM"
}
