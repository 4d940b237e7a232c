package redis

import (
	"context"
	"crypto/tls"

	"holdfast/internal/redis/admin"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/pubsub"
	"holdfast/internal/redis/readpipe"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// Callers of this package need no other one: these are its names for what lives below.
type (
	// Reply is what Redis answered to one command.
	Reply = resp.Reply
	// ReplyType is the type of a reply in the protocol RESP2.
	ReplyType = resp.Type

	// Config is where Redis is, and what has to be true before a write is acknowledged.
	Config = config.Config
	// Login is a Redis user with its password.
	Login = config.Login

	// Status is what a Client knows about Redis at a moment.
	Status = commit.Status

	// Request is one request to Redis.
	Request = request.Request
	// Result is the outcome of one command.
	Result = request.Result
	// ReadFrom is where a request may be read from.
	ReadFrom = request.ReadFrom
	// Script is a Lua script of this program's own.
	Script = request.Script

	// Express reads from the master on a connection that its caller polls: see package readpipe.
	Express = readpipe.Express

	// Command is one Redis command: its name, then its arguments.
	Command = command.Command
	// Spec is what Redis says of one of its commands.
	Spec = command.Spec

	// Message is what a subscriber hears.
	Message = pubsub.Message
	// Change tells that a key may have changed.
	Change = pubsub.Change

	// Error is how every operation of a Client fails.
	Error = outcome.Error
	// Kind says what a failed operation did to the data.
	Kind = outcome.Kind
)

// The values of ReadFrom.
const (
	ReadMaster  = request.ReadMaster
	ReadReplica = request.ReadReplica
	ReadCached  = request.ReadCached
)

// BatchBuckets are the upper bounds of Status.Batches: powers of two, the last without bound.
var BatchBuckets = commit.BatchBuckets

// The room for long answers, in answers of the greatest length: a Client has AnswersHeld, and
// one client of it may have ClientAnswers of them.
const (
	AnswersHeld   = meter.AnswersHeld
	ClientAnswers = meter.ClientAnswers
)

// URLForms are what ParseURL understands, for a person to read.
const URLForms = config.URLForms

// ParseURL takes from a URL (see URLForms) where Redis is: see config.ParseURL.
func ParseURL(text string, cfg *Config) error { return config.ParseURL(text, cfg) }

// TLS makes the settings for Config.TLS of PEM texts: see config.TLS.
func TLS(authorities, certificate, key []byte) (*tls.Config, error) {
	return config.TLS(authorities, certificate, key)
}

// NewScript returns a script that may write: see once.NewScript.
func NewScript(body string) *Script { return once.NewScript(body) }

// NewFreeingScript returns a script that writes and needs no memory: see once.NewFreeingScript.
func NewFreeingScript(body string) *Script { return once.NewFreeingScript(body) }

// NewReadScript returns a script that only reads.
func NewReadScript(body string) *Script { return once.NewReadScript(body) }

// ForExpress reports whether a request may go by an Express: see readpipe.ForExpress.
func ForExpress(r *Request, spec *Spec) bool { return readpipe.ForExpress(r, spec) }

// ErrTooLong is the error if the answers of a batch are too long for an Express.
var ErrTooLong = readpipe.ErrTooLong

// ErrCursorGone is the error of a command with a cursor that the present master did not give.
var ErrCursorGone = rewrite.ErrCursorGone

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

// What the control plane uses: see package admin.
type (
	// Admin asks one Redis or Sentinel process about itself, and changes its part in the
	// replication.
	Admin = admin.Client
	// Way is how connections to servers are made.
	Way = admin.Way
	// Standing is what a Redis node says of its part in the replication (ROLE).
	Standing = discovery.Standing
	// View is what a Sentinel holds of a master.
	View = admin.View
	// Periods are how often a Sentinel asks, publishes and pings.
	Periods = admin.Periods
	// KnownReplica is what a Sentinel last heard of a replica.
	KnownReplica = admin.KnownReplica
	// History is how far a replica is in a history of writes.
	History = admin.History
	// Vote is the last vote of a Sentinel.
	Vote = admin.Vote
	// Toll is what one command has cost a node since it was started.
	Toll = admin.Toll
	// Dump is the data of a node as it comes.
	Dump = admin.Dump
)

// DefaultInfo is how often a Sentinel asks for INFO until it is told otherwise.
const DefaultInfo = admin.DefaultInfo

// NewAdmin returns an Admin of the server at an address. It does not connect.
func NewAdmin(way Way, address, user, password string) *Admin {
	return admin.New(way, address, user, password)
}

// Spoke reports whether an error of an Admin is what the server itself replied.
func Spoke(err error) bool { return admin.Spoke(err) }

// Busy reports whether an error of an Admin is the reply that a script keeps the server from
// answering.
func Busy(err error) bool { return admin.Busy(err) }

// OpenDump begins to read the data of a node: see admin.OpenDump.
func OpenDump(ctx context.Context, way Way, address, user, password, as string) (*Dump, error) {
	return admin.OpenDump(ctx, way, address, user, password, as)
}
