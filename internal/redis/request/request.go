// Package request is the vocabulary of a Client and of all that carries its requests out: a
// request with its results, a script, and the token that stands for what was written up to an
// answer. Nothing is sent here.
package request

import (
	"math"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// ReadFrom is where a request may be read from.
type ReadFrom int

// The values of ReadFrom. The master answers what a replica or the cache cannot: anything
// that writes, and any command that is not known here.
const (
	// ReadMaster: the newest value, which every in-sync replica has.
	ReadMaster ReadFrom = iota
	// ReadReplica: a replica's value, at most Request.MaxLag old. What is not in the data
	// is read from the master (see Spec.Replicated).
	ReadReplica
	// ReadCached: a value from this process' memory, which Redis invalidates
	// when it changes; only GET of a single key.
	ReadCached
)

// Request is one request to Redis: one command or several, or a script. Do fills in the
// answer. A Request that Do has answered may be used again, but with new slices, because
// Do keeps references to the old ones.
type Request struct {
	// Commands are carried out in order. Other clients' commands may come in between,
	// unless Atomic is set.
	Commands []command.Command
	// Atomic is true if Commands are one transaction (MULTI, EXEC).
	Atomic bool
	// Script runs instead of Commands, with Keys and Args.
	Script     *Script
	Keys, Args []string

	Read ReadFrom
	// MaxLag bounds how old a replica's answer may be. 0: Config.MaxLag.
	MaxLag time.Duration
	// After is the Token of an earlier answer: a replica answers only when it
	// has everything that was written before.
	After string
	// Own is true if the commands may name Holdfast's own keys.
	Own bool
	// Long is true if the caller expects a long answer. Then the master is asked first how
	// long it is, and only requests with such answers wait for it.
	Long bool
	// Async is true if a write is answered as soon as the master has it. It may be lost
	// with the master.
	Async bool
	// IdempotencyKey makes it safe to repeat this very request; empty: there is no key.
	// However often it is sent within Config.IdempotencyTTL, it writes once, and every
	// repetition gets the first answer.
	IdempotencyKey string
	// Attempt is true if the key is one that a balancer made for this one request. Nobody
	// sends it again later than Config.IdempotencyTTL after it was first carried out, so a
	// repetition need not make its record live longer (see onceSets).
	Attempt bool
	// Owner is who the IdempotencyKey belongs to: equal keys of two owners are different
	// keys. Empty: all requests without an owner share their keys.
	Owner string
	// ReadScripts is true if its scripts are from a client that may only read.
	ReadScripts bool
	// Client is the name of who gets the answer. One client may take only a part of the
	// room for long answers (see ClientAnswers). Empty: no particular client.
	Client string
	// WantToken asks for a Token.
	WantToken bool
	// Sender is who sends it, such as a token's name. Senders take turns with commands
	// that are not brief. Empty: all requests without a sender are one sender's.
	Sender string

	// Results has one for each of Commands, or one for the Script.
	Results []Result
	// From is where it was read: the master, if any part of it was read there.
	From ReadFrom
	// Node is the node that answered (host:port); empty: this process' cache did.
	Node string
	// Lag is the greatest age that a replica's answer can have.
	Lag time.Duration
	// Token stands for everything written up to this answer: see After.
	Token string

	// held is what its answers take of the room for long answers, in bytes, and holder the
	// client that takes it. spent is how long its answers are so far, in bytes.
	held, Spent int64
	// Wary is true for a part of a request whose answers may be long.
	Wary   bool
	holder string
	ledger *meter.Ledger
}

// Hold notes what an answer takes of the room for long ones.
func (r *Request) Hold(l *meter.Ledger, bytes int64) {
	if bytes > 0 {
		r.ledger, r.holder = l, r.Client
		r.held += bytes
	}
}

// Part returns a request that is to become a part of r: it has no results, and takes no room.
func (r *Request) Part() Request {
	part := *r
	part.Results, part.held = nil, 0
	return part
}

// Absorb takes over what the answers to a part of the request take.
func (r *Request) Absorb(part *Request) {
	if part.held > 0 {
		r.held, r.ledger, r.holder = r.held+part.held, part.ledger, part.holder
		part.held = 0
	}
}

// Release gives back the room that long answers take. Call it when nobody uses the Results
// any more. It may be called several times.
func (r *Request) Release() {
	if r.held > 0 {
		r.ledger.Release(r.holder, r.held)
	}
	r.held, r.Spent = 0, 0
}

// Held returns how many bytes of the room for long answers the request takes; 0: its
// answer is short.
func (r *Request) Held() int64 { return r.held }

// Result is the outcome of one command.
type Result struct {
	Reply resp.Reply
	// Err is nil or an *Error. If Redis refused the command, the Error is of the kind
	// Refused and has Redis' own words: see Words.
	Err error
}

// Length returns how long an answer is that Redis gave just now. If a part of it was dropped,
// it returns the greatest length that is told apart.
func (r *Result) Length() int64 {
	if r.Err != nil {
		if yes, _ := meter.CutIn(outcome.Words(r.Err)); yes {
			return math.MaxUint32
		}
		return 0
	}
	if yes, _ := meter.IsCut(r.Reply.Message()); yes {
		return math.MaxUint32
	}
	return meter.Length(r.Reply.Message())
}

// InParts has a pipeline carried out in parts, one after the other, and puts their
// results together. next returns where the part that begins at a command ends. carry may
// make a part shorter. A part that fails as a whole ends the pipeline: its commands have
// its error, and the commands behind it were not executed. If it is the first part, its
// error is returned.
func (r *Request) InParts(l *meter.Ledger, next func(begin int) int, carry func(part *Request, begin int) error) error {
	results := r.Results[:0]
	for begin, end := 0, 0; begin < len(r.Commands); begin = end {
		end = next(begin)
		part := r.Part()
		part.Commands = r.Commands[begin:end]
		err := carry(&part, begin)
		end = begin + len(part.Commands)
		r.Absorb(&part)
		r.Spent = part.Spent
		if more := meter.Charged(r.Spent) - r.held; more > 0 && l.Force(more) { // of many that are short
			l.Claim(r.Client, more, true)
			r.Hold(l, more)
		}
		if err != nil && begin == 0 {
			return err
		}
		if err != nil {
			for i := range r.Commands[begin:] {
				if begin+i == end {
					err = &outcome.Error{Kind: outcome.NotExecuted, Cause: err} // the parts behind were not sent
				}
				results = append(results, Result{Err: err})
			}
			break
		}
		results = append(results, part.Results...)
		r.From, r.Node, r.Lag, r.Token = part.From, part.Node, part.Lag, part.Token
	}
	r.Results = results
	return nil
}

// ResultOf returns the result of a command that a node has answered. It reports false if the
// master has to be asked instead.
func ResultOf(m rueidis.RedisMessage, err error) (Result, bool) {
	switch outcome.FateOf(err, true) {
	case outcome.Executed:
		return Result{Reply: resp.FromMessage(m)}, true
	case outcome.Rejected:
		return Result{Err: &outcome.Error{Kind: outcome.Refused, Cause: outcome.WordsOf(m)}}, true
	}
	return Result{}, false
}
