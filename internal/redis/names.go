package redis

import (
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// Callers of this package need no other one: these are its names for what lives below.
type (
	// Reply is what Redis answered to one command.
	Reply = resp.Reply
	// ReplyType is the type of a reply in the protocol RESP2.
	ReplyType = resp.Type

	// Command is one Redis command: its name, then its arguments.
	Command = command.Command
	// Spec is what Redis says of one of its commands.
	Spec = command.Spec

	// Standing is what a Redis node says of its part in the replication.
	Standing = discovery.Standing

	// Error is how every operation of a Client fails.
	Error = outcome.Error
	// Kind says what a failed operation did to the data.
	Kind = outcome.Kind
)

// The types of a reply.
const (
	Null    = resp.Null // of both kinds
	Text    = resp.Text // a string, simple or bulk
	Integer = resp.Integer
	Array   = resp.Array
	Failure = resp.Failure // an error inside an array, such as a transaction's
)

// The kinds of failure: see package outcome.
const (
	NotExecuted = outcome.NotExecuted
	Unknown     = outcome.Unknown
	GivenUp     = outcome.GivenUp
	TooLong     = outcome.TooLong
	Crowded     = outcome.Crowded
	Withheld    = outcome.Withheld
	Overloaded  = outcome.Overloaded
	Invalid     = outcome.Invalid
	Refused     = outcome.Refused
)

// KindOf returns the kind of an operation's error; 0 if it is not one of ours.
func KindOf(err error) Kind { return outcome.KindOf(err) }

// Words returns Redis' own words to what it refused, such as "ERR syntax error"; empty if
// the error is not one of Redis'.
func Words(err error) string { return outcome.Words(err) }
