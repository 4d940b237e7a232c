// Package operation has a request on its way to Redis: what is known of it before it is sent, how
// its answer is read, what the answer takes of this process' memory, and when the operation may be
// sent again. The master's command table is here, too, because it decides all that. Queues,
// connections and the acknowledgement of writes are the group commit's (package commit).
package operation

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/scripts"
)

// Operation is one request on its way to the master. Its caller and the writer of the group commit
// share it, and State is which of them owns it.
type Operation struct {
	Cmds   []command.Command
	Atomic bool
	Script *request.Script
	Keys   []string
	Args   []string

	// Effects has for each command whether it may change data, and Writes whether any command
	// may. An operation that only reads may be repeated at will.
	Effects   []bool
	oneEffect [1]bool // effects of a single command
	// Frees has for each command whether it writes and needs no memory: Redis carries it
	// out even when its memory is full.
	Frees   []bool
	oneFree [1]bool // frees of a single command
	Writes  bool
	// Local is true if its answer is about the process that is asked, and not about the
	// data. Then the master is asked.
	Local bool
	Uses  []scripts.Use // of clients' own scripts
	// Record is the name of the record of a write with an idempotency key; empty: it has
	// no key. A write with a record may be sent again when its answer was lost.
	Record string
	// attempt is Request.Attempt.
	attempt bool
	// Placement is where its commands belong in a cluster; nil: there is no cluster.
	Placement *Placement
	// Guarded is true if no script of ours can keep its record (package commit, guard.go).
	Guarded bool
	// Async is true if it does not wait for replicas.
	Async bool
	// WantToken asks for the master's replication offset after it.
	WantToken bool
	Size      int // of its data, in bytes, roughly
	// These are bytes of its answer, as meter counts them. Budget is how long the answer may be.
	// Room was taken for it before it is asked for, Spent is how long it is, Held is what it
	// takes, and Need is what another attempt needs if there was no room.
	Budget, Room, Spent, Held, Need int64
	Ledger                          *meter.Answers // of all answers of its Client
	// Brief is true if each of its commands is brief. Silences counts the nodes that fell silent
	// while they had it: see MayRepeat.
	Brief    bool
	Silences int
	lostAt   string // the first node that fell silent or left while it had it
	// The lengths of answers (see lengths.go). large is true if its answer is long or may be.
	// Learns is the hash of what a single command reads, whose length is remembered, and Unseen
	// is true if that length is not known yet. lessons are the same for several commands.
	// expected is how long the answer is, as far as that is known beforehand.
	large  bool
	Learns uint64
	Unseen bool
	// Bounded is how a GET is carried out (see bounded.go), and wasBounded is true if Redis
	// refused that.
	Bounded    boundedRead
	wasBounded bool
	lessons    []lesson
	expected   float64
	// lengths are its commands' parts of expected. instead has the errors of commands that
	// were left out because of their lengths.
	lengths []float64
	instead []error
	// estimates are what is known of how long its commands take, if it is not brief. Weight is
	// the sum of Loads.
	estimates []cost.Estimate
	estimate  [1]cost.Estimate // of a single command
	Weight    time.Duration
	Loads     []time.Duration // how long its commands take, with the answers' bytes
	Sender    string          // Request.Sender
	Lasts     bool            // it turned out to need the lease, and waits for that
	// RunsScript is true if one of its commands runs a client's script.
	RunsScript bool
	// Login is the Redis user that runs those scripts; nil: our own.
	Login *config.Login
	// Base is the index of its first command in the request, if it is a slice of the
	// request (package redis, slices.go).
	Base int

	// The answers belong to the writer until the operation is finished.
	Results   []request.Result
	Offset    int64 // of the master after it, if HasOffset is true
	HasOffset bool  // the master was asked for its offset

	// First and Count are its commands' place in the batch. A single command with a record shares
	// one call of a script with others; Place is its index among them.
	First, Count, Place int

	State   atomic.Int32
	Expired atomic.Bool // its caller's time is over: it must not be tried again
	// Until is when its caller gives it up. It must not be sent after that, even if this
	// process was stopped in between and its caller has not woken up yet.
	Until time.Time
	// Sent is true if an earlier attempt may have executed it. The writer sets it before
	// it gives the operation back to the queue.
	Sent bool
	// Cause is why it has not been executed yet.
	Cause error
	Done  chan error // its outcome; has room for it
	Timer *time.Timer
	// OnDone is called with the outcome, instead of sending it to Done, for an operation of
	// Client.Start; otherwise it is nil. Request and Callback are those of Start.
	OnDone   func(o *Operation, over bool, err error)
	Request  *request.Request
	Callback func(error)
	// These belong to package deadline. GiveUp is when it gives the operation up.
	Before, Next *Operation
	Watched      bool
	GiveUp       time.Time
}

var operations = sync.Pool{New: func() any { return &Operation{Done: make(chan error, 1)} }}

// Free gives back an operation that nobody uses any more.
func (o *Operation) Free() {
	o.Drop()
	clear(o.Results)
	*o = Operation{Done: o.Done, Timer: o.Timer, Results: o.Results[:0]}
	operations.Put(o)
}

// The states of an operation.
const (
	Queued   int32 = iota // it waits; given up now, it was not executed
	Taken                 // the writer has it; given up now, its outcome is unknown
	Finished              // it has its outcome
)

// Single reports whether the operation is one command with a record: see once.Each.
func (o *Operation) Single() bool {
	return o.Record != "" && len(o.Cmds) == 1 && !o.Atomic && !o.Guarded && o.Placement == nil && o.Base == 0
}

// Whole reports whether the operation is a transaction with a record, which once.Transaction carries
// out.
func (o *Operation) Whole() bool { return o.Atomic && o.Record != "" && !o.Guarded }

// Plain returns a command as it is.
func Plain(b rueidis.Builder, cmd command.Command) rueidis.Completed {
	return b.Arbitrary(cmd[0]).Args(cmd[1:]...).Build()
}

// Next is what happens to an operation after an attempt.
type Next int

const (
	Settle  Next = iota // executed: it is answered when enough replicas have it
	Repeat              // not executed, or harmless to repeat
	Decided             // it has its outcome
)

// Element returns one of the several answers of a script, or the one answer that it gives
// for all (see PlainSets).
func Element(m rueidis.RedisMessage, i int) (rueidis.RedisMessage, error) {
	if m.IsString() {
		return m, nil
	}
	list, err := m.ToArray()
	if err != nil || i >= len(list) {
		return m, errors.New("a script answered too little")
	}
	return list[i], list[i].Error()
}

// Reply returns a command's reply. About counters see carrying.
func (o *Operation) Reply(i int, m rueidis.RedisMessage) resp.Reply {
	return resp.FromScript(m, o.Record != "" && o.Effects[i] && m.IsString() && once.Counts(o.Cmds[i][0]))
}

// Transacted reports whether a transaction that EXEC refused did nothing: MULTI was
// accepted, or none of the commands was.
func Transacted(answers []rueidis.RedisResult) bool {
	if answers[0].Error() == nil {
		return true
	}
	for _, a := range answers {
		if err := a.Error(); err == nil || rueidis.IsRedisNil(err) {
			return false
		}
	}
	return true
}

// Aborted returns why EXEC, the last of the answers, did nothing: the first refusal of a
// command, or else EXEC's own. may is true if another try may succeed.
func Aborted(answers []rueidis.RedisResult) (cause error, may bool) {
	for _, a := range answers {
		m, err := a.ToMessage()
		if err == nil || rueidis.IsRedisNil(err) {
			continue
		}
		words := outcome.WordsOf(m)
		return words, outcome.FateOf(err, true) == outcome.Later || outcome.Retryable(abortWords(words))
	}
	return nil, false
}

// Without returns the outcome of an operation that is given up while the writer does not
// have it.
func (o *Operation) Without() error {
	switch {
	case o.Sent:
		return &outcome.Error{Kind: outcome.Unknown, Cause: o.Cause}
	case o.Cause != nil:
		return &outcome.Error{Kind: outcome.NotExecuted, Cause: o.Cause}
	case o.estimates != nil:
		return &outcome.Error{Kind: outcome.NotExecuted, Cause: errNoTurn}
	}
	return &outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrNoMaster}
}

// abandoned returns the outcome of an operation that is given up while the writer has
// it.
func (o *Operation) abandoned() error {
	switch {
	case o.Writes:
		return &outcome.Error{Kind: outcome.Unknown, Cause: errNoAck}
	case !o.Brief:
		return &outcome.Error{Kind: outcome.GivenUp, Cause: errNoAnswer}
	}
	return &outcome.Error{Kind: outcome.NotExecuted, Cause: errNoAck}
}

// Dismiss gives up an expired operation, and returns its outcome. The outcome is nil if
// the operation has one already, or changes its owner just now. waited is true if it was
// in the queue: then the writer has to take it off the counts.
func (o *Operation) Dismiss() (waited bool, outcome error) {
	switch {
	case o.State.CompareAndSwap(Taken, Finished):
		return false, o.abandoned()
	case o.State.CompareAndSwap(Queued, Finished): // given back before expired was set
		return true, o.Without()
	}
	return false, nil
}

// Refusal returns the outcome of an operation that Redis refused for good. An earlier
// attempt may still have happened.
func (o *Operation) Refusal(cause error) *outcome.Error {
	if o.Sent {
		return &outcome.Error{Kind: outcome.Unknown, Cause: cause}
	}
	return &outcome.Error{Kind: outcome.Refused, Cause: cause}
}

// Finish gives the operation its outcome, if its caller still waits for it. From then on
// the operation belongs to its caller. Finish does not block.
func (o *Operation) Finish(err error) {
	if !o.State.CompareAndSwap(Taken, Finished) {
		o.Drop()
		return
	}
	if o.OnDone != nil {
		o.OnDone(o, true, err)
		return
	}
	o.Done <- err
}

// Discarded is the error of a transaction that Redis did not carry out because it refused
// one of the commands. The cause is that refusal, which tells more than EXEC's.
type Discarded struct{ Cause error }

func (d *Discarded) Error() string { return d.Cause.Error() }

func (d *Discarded) Unwrap() error { return d.Cause }

// abortWords returns the reason inside EXEC's refusal, which is behind a fixed text (Redis
// 7.0, multi.c, execCommandAbort); empty: there is none.
func abortWords(err error) string {
	_, behind, _ := strings.Cut(err.Error(), "because of: ")
	return behind
}
