package redis

import (
	"time"

	"holdfast/internal/redis/meter"
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
	Commands []Command
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
	held, spent int64
	// wary is true for a part of a request whose answers may be long.
	wary   bool
	holder string
	ledger *meter.Ledger
}

// hold notes what an answer takes of the room for long ones.
func (r *Request) hold(l *meter.Ledger, bytes int64) {
	if bytes > 0 {
		r.ledger, r.holder = l, r.Client
		r.held += bytes
	}
}

// absorb takes over what the answers to a part of the request take.
func (r *Request) absorb(part *Request) {
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
	r.held, r.spent = 0, 0
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
