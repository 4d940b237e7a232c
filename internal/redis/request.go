package redis

import (
	"time"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/resp"
)

// ReadFrom says where a request may be read from.
type ReadFrom int

// Where a request may be read from. What a replica or the cache cannot answer
// (anything that writes, any command that they do not know) is answered by the
// master all the same.
const (
	// ReadMaster: the newest value, which every in-sync replica has.
	ReadMaster ReadFrom = iota
	// ReadReplica: a replica's value, at most Request.MaxLag old; what is not in the
	// data is the master's (see Spec.Replicated).
	ReadReplica
	// ReadCached: a value from this process' memory, which Redis invalidates
	// when it changes; only GET of a single key.
	ReadCached
)

// Request is one request to Redis: one command or several, or a script. Do
// fills in the answer. A Request that Do has answered may be used for another
// one, but Do keeps what the slices hold: those have to be new ones.
type Request struct {
	// Commands are carried out in order. Other clients' may come in between,
	// unless Atomic.
	Commands []Command
	// Atomic: as one transaction (MULTI, EXEC).
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
	// Own: the commands may name keys of Holdfast's own.
	Own bool
	// Long: the answer is long, as far as the caller knows. How long it is the master is
	// asked first, and nobody but others with such answers waits for it.
	Long bool
	// Async: a write is answered as soon as the master has it; it may be lost
	// with the master.
	Async bool
	// IdempotencyKey makes a repetition of this very request safe: what writes
	// happens once however often it is sent within Config.IdempotencyTTL, and
	// every repetition gets the first one's answer. Empty: none.
	IdempotencyKey string
	// Attempt: the key is a balancer's, made for this one request, which nobody sends
	// again when Config.IdempotencyTTL has passed since it was first carried out. So
	// its record need not live longer for a repetition (see onceSets).
	Attempt bool
	// Owner is whose IdempotencyKey it is: that of another is another key. Empty:
	// it is anybody's.
	Owner string
	// ReadScripts: its scripts are of somebody who may only read.
	ReadScripts bool
	// Client names who gets the answer: one may have no more than a part of the room
	// for long answers (see ClientAnswers). Empty: nobody in particular.
	Client string
	// WantToken asks for a Token.
	WantToken bool
	// Sender is who sends it, such as a token's name. Commands that are not brief
	// are carried out in turn, one sender's after another's. Empty: all those that
	// do not say it are one.
	Sender string

	// Results has one for each of Commands, or one for the Script.
	Results []Result
	// From says where it was read: the master, if any part of it was.
	From ReadFrom
	// Node is who answered (host:port); empty: this process' cache.
	Node string
	// Lag is how old the answer of a replica is at most.
	Lag time.Duration
	// Token stands for everything written up to this answer: see After.
	Token string

	// held is what its answers take of the room for long ones, and holder the name
	// under which. spent is how long the answers are that it has so far.
	held, spent int64
	// wary: it is a part of one whose answers may be long.
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

// Release gives back the room that long answers take. It is to be called when
// the Results are of no more use to anybody, and may be called several times.
func (r *Request) Release() {
	if r.held > 0 {
		r.ledger.Release(r.holder, r.held)
	}
	r.held, r.spent = 0, 0
}

// Held is how many bytes of the room for long answers it takes; 0: its answer is
// short.
func (r *Request) Held() int64 { return r.held }

// Result is the outcome of one command.
type Result struct {
	Reply resp.Reply
	// Err is nil or an *Error. Redis' own words to a command that it refused
	// are in an Error of the kind Refused: see Words.
	Err error
}
