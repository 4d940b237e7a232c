// Package operation has a request on its way to Redis: what is known of it before it is sent, how
// its answer is read, what the answer takes of this process' memory, and when the operation may be
// sent again. The master's command table is here, too, because it decides all that. Queues,
// connections and the acknowledgement of writes are the group commit's (package commit).
package redis

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/scripts"
)

// operation is one request on its way to the master. Its caller and the writer share it,
// and state is which of them owns it.
type operation struct {
	cmds   []Command
	atomic bool
	script *Script
	keys   []string
	args   []string

	// effects has for each command whether it may change data, and writes whether any
	// command may. What only reads may be repeated at will.
	effects   []bool
	oneEffect [1]bool // effects of a single command
	// frees has for each command whether it writes and needs no memory: Redis carries it
	// out even when its memory is full.
	frees   []bool
	oneFree [1]bool // frees of a single command
	writes  bool
	// local is true if its answer is about the process that is asked, and not about the
	// data. Then the master is asked.
	local bool
	uses  []scripts.Use // of clients' own scripts
	// record is the name of the record of a write with an idempotency key; empty: it has
	// no key. A write with a record may be sent again when its answer was lost.
	record string
	// attempt is Request.Attempt.
	attempt bool
	// site is where its commands belong in a cluster; nil: there is no cluster.
	site *placement
	// guarded is true if no script of ours can keep its record (see guard.go).
	guarded bool
	// async is true if it does not wait for replicas.
	async bool
	// wantToken asks for the master's replication offset after it.
	wantToken bool
	size      int // of its data, in bytes, roughly
	// These are bytes of its answer, as meter counts them. budget is how long the answer
	// may be. room was taken for it before it is asked for, spent is how long it is, held
	// is what it takes, and need is what another attempt needs if there was no room.
	budget, room, spent, held, need int64
	ledger                          *meter.Answers // of all answers of its Client
	// brief is true if each of its commands is brief. silences counts the nodes that fell
	// silent while they had it: see mayRepeat.
	brief    bool
	silences int
	lostAt   string // the first node that fell silent or left while it had it
	// The lengths of answers (see lengths.go). large is true if its answer is long or may
	// be. learns is the hash of what a single command reads, whose length is remembered, and
	// unseen is true if that length is not known yet. lessons are the same for several
	// commands. expected is how long the answer is, as far as that is known beforehand.
	large  bool
	learns uint64
	unseen bool
	// bounded is how a GET is carried out (see bounded.go), and wasBounded is true if Redis
	// refused that.
	bounded    boundedRead
	wasBounded bool
	lessons    []lesson
	expected   float64
	// lengths are its commands' parts of expected. instead has the errors of commands that
	// were left out because of their lengths.
	lengths []float64
	instead []error
	// estimates are what is known of how long its commands take, if it is not brief. weight
	// is the sum of loads.
	estimates []cost.Estimate
	estimate  [1]cost.Estimate // of a single command
	weight    time.Duration
	loads     []time.Duration // how long its commands take, with the answers' bytes
	sender    string          // Request.Sender
	lasts     bool            // it turned out to need the lease, and waits for that
	// runsScript is true if one of its commands runs a client's script.
	runsScript bool
	// login is the Redis user that runs those scripts; nil: our own.
	login *Login
	// base is the index of its first command in the request, if it is a slice of the
	// request: see doInSlices.
	base int

	// The answers belong to the writer until the operation is finished.
	results []Result
	offset  int64 // of the master after it, if told
	told    bool  // the master was asked for its offset

	// first and count are its commands' place in the batch. A single command with a
	// record shares one call of a script with others; place is its index among them.
	first, count, place int

	state   atomic.Int32
	expired atomic.Bool // its caller's time is over: it must not be tried again
	// until is when its caller gives it up. It must not be sent after that, even if this
	// process was stopped in between and its caller has not woken up yet.
	until time.Time
	// sent is true if an earlier attempt may have executed it. The writer sets it before
	// it gives the operation back to the queue.
	sent bool
	// cause is why it has not been executed yet.
	cause error
	done  chan error // its outcome; has room for it
	timer *time.Timer
	// then is called with the outcome, instead of sending it to done, for an operation of
	// Client.Start; otherwise it is nil. giveUp is when deadlines gives the operation up.
	then         func(o *operation, over bool, err error)
	request      *Request
	heard        func(error)
	before, next *operation
	watched      bool
	giveUp       time.Time
}

var operations = sync.Pool{New: func() any { return &operation{done: make(chan error, 1)} }}

// free gives back an operation that nobody uses any more.
func (o *operation) free() {
	o.drop()
	clear(o.results)
	*o = operation{done: o.done, timer: o.timer, results: o.results[:0]}
	operations.Put(o)
}

// The states of an operation.
const (
	queued   int32 = iota // it waits; given up now, it was not executed
	taken                 // the writer has it; given up now, its outcome is unknown
	finished              // it has its outcome
)

// single reports whether the operation is one command with a record: see once.
func (o *operation) single() bool {
	return o.record != "" && len(o.cmds) == 1 && !o.atomic && !o.guarded && o.site == nil && o.base == 0
}

// whole reports whether the operation is a transaction with a record, which the script
// whole carries out.
func (o *operation) whole() bool { return o.atomic && o.record != "" && !o.guarded }

func plain(b rueidis.Builder, cmd Command) rueidis.Completed {
	return b.Arbitrary(cmd[0]).Args(cmd[1:]...).Build()
}

// next is what happens to an operation after an attempt.
type next int

const (
	settle  next = iota // executed: it is answered when enough replicas have it
	repeat              // not executed, or harmless to repeat
	decided             // it has its outcome
)

// element returns one of the several answers of a script, or the one answer that it gives
// for all (see PlainSets).
func element(m rueidis.RedisMessage, i int) (rueidis.RedisMessage, error) {
	if m.IsString() {
		return m, nil
	}
	list, err := m.ToArray()
	if err != nil || i >= len(list) {
		return m, errors.New("a script answered too little")
	}
	return list[i], list[i].Error()
}

// reply returns a command's reply. About counters see carrying.
func (o *operation) reply(i int, m rueidis.RedisMessage) resp.Reply {
	return resp.FromScript(m, o.record != "" && o.effects[i] && m.IsString() && once.Counts(o.cmds[i][0]))
}

// transacted reports whether a transaction that EXEC refused did nothing: MULTI was
// accepted, or none of the commands was.
func transacted(answers []rueidis.RedisResult) bool {
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

// aborted returns why EXEC, the last of the answers, did nothing: the first refusal of a
// command, or else EXEC's own. may is true if another try may succeed.
func aborted(answers []rueidis.RedisResult) (cause error, may bool) {
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

// without returns the outcome of an operation that is given up while the writer does not
// have it.
func (o *operation) without() error {
	switch {
	case o.sent:
		return &Error{Kind: Unknown, Cause: o.cause}
	case o.cause != nil:
		return &Error{Kind: NotExecuted, Cause: o.cause}
	case o.estimates != nil:
		return &Error{Kind: NotExecuted, Cause: errNoTurn}
	}
	return &Error{Kind: NotExecuted, Cause: outcome.ErrNoMaster}
}

// abandoned returns the outcome of an operation that is given up while the writer has
// it.
func (o *operation) abandoned() error {
	switch {
	case o.writes:
		return &Error{Kind: Unknown, Cause: errNoAck}
	case !o.brief:
		return &Error{Kind: GivenUp, Cause: errNoAnswer}
	}
	return &Error{Kind: NotExecuted, Cause: errNoAck}
}

// dismiss gives up an expired operation, and returns its outcome. The outcome is nil if
// the operation has one already, or changes its owner just now. waited is true if it was
// in the queue: then writer.forget has to take it off the counts.
func (o *operation) dismiss() (waited bool, outcome error) {
	switch {
	case o.state.CompareAndSwap(taken, finished):
		return false, o.abandoned()
	case o.state.CompareAndSwap(queued, finished): // given back before expired was set
		return true, o.without()
	}
	return false, nil
}

// refusal returns the outcome of an operation that Redis refused for good. An earlier
// attempt may still have happened.
func (o *operation) refusal(cause error) *Error {
	if o.sent {
		return &Error{Kind: Unknown, Cause: cause}
	}
	return &Error{Kind: Refused, Cause: cause}
}

// finish gives the operation its outcome, if its caller still waits for it. From then on
// the operation belongs to its caller. finish does not block.
func (o *operation) finish(err error) {
	if !o.state.CompareAndSwap(taken, finished) {
		o.drop()
		return
	}
	if o.then != nil {
		o.then(o, true, err)
		return
	}
	o.done <- err
}

// discarded is the error of a transaction that Redis did not carry out because it refused
// one of the commands. The cause is that refusal, which tells more than EXEC's.
type discarded struct{ cause error }

func (d *discarded) Error() string { return d.cause.Error() }

func (d *discarded) Unwrap() error { return d.cause }

// abortWords returns the reason inside EXEC's refusal, which is behind a fixed text (Redis
// 7.0, multi.c, execCommandAbort); empty: there is none.
func abortWords(err error) string {
	_, behind, _ := strings.Cut(err.Error(), "because of: ")
	return behind
}
