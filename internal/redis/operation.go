package redis

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// operation is one request on its way to the master. Its caller and the writer
// share it; state says whose it is.
type operation struct {
	cmds   []Command
	atomic bool
	script *Script
	keys   []string
	args   []string

	// effects says of each command whether it may change data; writes, whether
	// any does. What only reads may be repeated at will.
	effects   []bool
	oneEffect [1]bool // effects of a single command
	// frees says of each command whether it writes and takes no memory: Redis
	// carries it out also when that is full.
	frees   []bool
	oneFree [1]bool // frees of a single command
	writes  bool
	// local: what it answers is of the process that is asked, not in the data: it
	// is one for the master.
	local bool
	uses  []scriptUse // of scripts that clients bring
	// record names the record of a write with an idempotency key; empty: none.
	// Such a write may be sent again when its answer was lost.
	record string
	// attempt is Request.Attempt.
	attempt bool
	// site, when it is not nil, says where its commands are in a cluster.
	site *placement
	// guarded: its record cannot be kept by a script of ours (see guard.go).
	guarded bool
	// async: it does not wait for replicas.
	async bool
	// wantToken asks for the master's replication offset after it.
	wantToken bool
	size      int // bytes of its data, about
	// budget is how long its answer may be, and room what was taken for it before
	// it is asked for. What it takes is held, and need what another attempt needs when
	// there was no room. All of it is in bytes, as meter counts them.
	budget, room, spent, held, need int64
	ledger                          *answers // of its client
	// brief: each of its commands is. silences counts the nodes that fell silent
	// while they had it: see mayRepeat.
	brief    bool
	silences int
	lostAt   string // the first node that fell silent or left while it had it
	// large: its answer is long, or may be. learns stands for a single command whose
	// answer is to teach how long it is; unseen reports that nobody knows yet. lessons are
	// what several answers are to teach. expected is how long the answer is, as far as that
	// was told beforehand. See lengths.go.
	large  bool
	learns uint64
	unseen bool
	// bounded: it is a GET that is carried out in another way; see bounded.go.
	// wasBounded: Redis refused that.
	bounded    boundedRead
	wasBounded bool
	lessons    []lesson
	expected   float64
	// lengths are its commands' parts of expected, and instead the errors of those that
	// were taken out for them.
	lengths []float64
	instead []error
	// estimates are those of its commands, when it is not brief; weight is what they
	// come to.
	estimates []cost.Estimate
	estimate  [1]cost.Estimate // of a single command
	weight    time.Duration
	loads     []time.Duration // what they come to with the answers' bytes
	sender    string          // Request.Sender
	lasts     bool            // it turned out to need the lease, and waits for it by itself
	// RunsScript: one of its commands runs a script of a user's.
	runsScript bool
	// login is who runs those scripts; nil: we do.
	login *Login
	// base is the place of its first command in the request, of which it is a
	// slice: see doInSlices.
	base int

	// Answers, the writer's until the operation is done.
	results []Result
	offset  int64 // of the master after it, when told
	told    bool

	// first and count are its commands' place in the batch. A single command
	// with a record shares one call of a script with others; place is its own
	// there.
	first, count, place int

	state   atomic.Int32
	expired atomic.Bool // its caller's time is over: it is not to be tried again
	// until is when its caller gives it up. It is not to be sent later, also
	// when this process was stopped in between and its caller has yet to wake.
	until time.Time
	// sent says that it may have been executed by an earlier attempt. The
	// writer sets it before it gives the operation back to the queue.
	sent bool
	// cause is why it has not been executed yet.
	cause error
	done  chan error // has room for the one outcome
	timer *time.Timer
	// then, when it is not nil, hears of the outcome instead of done: see
	// Client.Start. giveUp is the end of the time that it gets after its deadline.
	then         func(o *operation, over bool, err error)
	request      *Request
	heard        func(error)
	before, next *operation
	watched      bool
	giveUp       time.Time
}

var operations = sync.Pool{New: func() any { return &operation{done: make(chan error, 1)} }}

// free gives an operation back that is over.
func (o *operation) free() {
	o.drop()
	clear(o.results)
	*o = operation{done: o.done, timer: o.timer, results: o.results[:0]}
	operations.Put(o)
}

// The states of an operation.
const (
	queued   int32 = iota // waits; its caller may give it up: not executed
	taken                 // the writer has it; its caller may give it up: unknown
	finished              // has its outcome
)

// single says that the operation is one command with a record: see once.
func (o *operation) single() bool {
	return o.record != "" && len(o.cmds) == 1 && !o.atomic && !o.guarded && o.site == nil && o.base == 0
}

// whole says that the operation is a transaction with a record: see the script
// of that name.
func (o *operation) whole() bool { return o.atomic && o.record != "" && !o.guarded }

// encode appends the operation's commands to a batch.
func (o *operation) encode(s *session, batch rueidis.Commands) rueidis.Commands {
	o.first = len(batch)
	b := s.conn.B()
	switch {
	case o.script != nil:
		batch = o.asked(b, batch)
		batch = append(batch, s.run(o.script, o.record, o.keys, o.args))
	case o.whole():
		batch = append(o.asked(b, batch), o.encodeWhole(s))
	case o.atomic:
		batch = o.asked(b, batch)
		batch = append(batch, b.Multi().Build())
		if o.login != nil { // for all of it, as what carries out EXEC can do no more
			batch = append(batch, s.logIn(o.login))
		}
		for _, cmd := range o.cmds {
			batch = append(batch, s.plain(cmd))
		}
		batch = append(batch, b.Exec().Build())
		if o.login != nil {
			batch = append(batch, s.logBack())
		}
	case o.bounded != unbounded && (o.site == nil || !o.site.asking):
		batch = o.bounded.encode(b, batch, o.cmds[0][1])
	default:
		for i, cmd := range o.cmds {
			login := o.loginAround(cmd)
			if login != nil {
				batch = append(batch, s.logIn(login))
			}
			batch = o.asked(b, batch)
			if o.record != "" && o.effects[i] {
				records := []string{o.itemRecord(i)}
				s.w.clocks.made(records[0])
				if o.site != nil {
					script := onceInCluster
					if o.frees[i] {
						script = onceFreeingInCluster
					}
					batch = append(batch, s.call(script, append(records, o.site.keys[i]...), s.head(len(cmd)), cmd))
				} else {
					growing := "1"
					if o.frees[i] {
						growing = "0"
					}
					batch = append(batch, s.call(once, records, appendSized(append(s.head(2+len(cmd)), growing), cmd)))
				}
			} else {
				batch = append(batch, s.plain(cmd))
			}
			if login != nil {
				batch = append(batch, s.logBack())
			}
		}
	}
	o.count = len(batch) - o.first
	return batch
}

func plain(b rueidis.Builder, cmd Command) rueidis.Completed {
	return b.Arbitrary(cmd[0]).Args(cmd[1:]...).Build()
}

// next is what is to be done with an operation after an attempt.
type next int

const (
	settle  next = iota // executed: to be answered when enough replicas have it
	repeat              // not executed, or harmless to repeat
	decided             // it has its outcome
)

// read takes the answers to the operation's commands. broken says that the
// session is of no more use, and why.
func (o *operation) read(s *session, answers []rueidis.RedisResult, sent bool) (then next, broken error) {
	o.results = o.results[:0]
	answers = o.answered(s, answers)
	if o.bounded != unbounded && len(answers) > 1 {
		if answers, then = o.readBounded(answers); len(answers) == 0 || then != settle {
			return then, nil
		}
	}
	switch {
	case o.script != nil:
		return o.readScript(s, answers[0], sent)
	case o.whole():
		return o.readWhole(s, answers[0], sent)
	case o.atomic:
		return o.readTransaction(s, answers, sent)
	}
	var done, again, gone bool // writes that happened, that did not, that may have
	unanswered := false
	var cause error
	for i, a := range answers {
		m, err := a.ToMessage()
		if err == nil && o.record != "" && o.effects[i] {
			m, err = element(m, o.place)
		}
		fate := outcome.FateOf(err, sent)
		if fate == outcome.Rejected && o.record != "" && o.effects[i] && isNoScript(err) {
			s.forget(once)
			s.forget(onceSets)
			s.forget(onceInCluster)
			s.forget(onceFreeingInCluster)
			fate = outcome.Later
		}
		switch fate {
		case outcome.Executed:
			done = done || o.effects[i]
			o.results = append(o.results, Result{Reply: o.reply(i, m)})
		case outcome.Rejected:
			if o.record != "" && o.effects[i] && isGone(err) {
				done = true
				o.results = append(o.results, Result{Err: &Error{Kind: Unknown, Cause: errDone}})
				break
			}
			o.results = append(o.results, Result{Err: o.refusal(outcome.WordsOf(m))})
		case outcome.Later:
			again = true
			if !isNoScript(err) {
				broken = cmp.Or(broken, s.refused(err))
			}
			cause = err
			o.results = append(o.results, Result{Err: &Error{Kind: NotExecuted, Cause: err}})
		case outcome.Lost:
			broken = fmt.Errorf("%w (%w)", outcome.ErrLost, err)
			cause, unanswered = broken, true
			if o.effects[i] {
				gone = true
			} else {
				again = true
			}
			o.results = append(o.results, Result{Err: &Error{Kind: Unknown, Cause: err}})
		}
	}
	switch {
	case !again && !gone:
		return settle, nil
	case o.record == "" && gone:
		o.finish(&Error{Kind: Unknown, Cause: cause})
		return decided, broken
	case o.record == "" && done:
		// Some happened and some certainly did not: each is told its own.
		return settle, broken
	}
	o.sent = o.sent || done || gone
	if unanswered && !o.mayRepeat(s.loss()) {
		o.finish(o.lost(cause, s.loss()))
		return decided, broken
	}
	o.cause = cause
	return repeat, broken
}

// element is one of the answers of a script that gives several, or the one that it
// gives for all of them (see onceSets).
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

// reply is a command's reply; of a counter, see carrying.
func (o *operation) reply(i int, m rueidis.RedisMessage) resp.Reply {
	return resp.FromScript(m, o.record != "" && o.effects[i] && m.IsString() && counts(o.cmds[i][0]))
}

func (o *operation) readScript(s *session, a rueidis.RedisResult, sent bool) (next, error) {
	m, err := a.ToMessage()
	switch outcome.FateOf(err, sent) {
	case outcome.Executed:
		o.results = append(o.results, Result{Reply: resp.FromMessage(m)})
		return settle, nil
	case outcome.Rejected:
		if isNoScript(err) {
			s.forget(o.script)
			o.cause = err
			return repeat, nil
		}
		if isGone(err) {
			o.finish(&Error{Kind: Unknown, Cause: errDone})
			return decided, nil
		}
		o.results = append(o.results, Result{Err: o.refusal(outcome.WordsOf(m))})
		return settle, nil
	case outcome.Later:
		o.cause = err
		return repeat, s.refused(err)
	}
	return o.lose(outcome.ErrLost, s.loss()), outcome.ErrLost
}

// readTransaction takes the answers to MULTI, the commands, and EXEC. Where
// Redis turned down any of the commands, EXEC does nothing (manual,
// "Transactions", errors inside a transaction).
func (o *operation) readTransaction(s *session, answers []rueidis.RedisResult, sent bool) (next, error) {
	exec := answers[len(answers)-1]
	err := exec.NonRedisError()
	if err != nil {
		if !sent {
			o.cause = err
			return repeat, outcome.ErrLost
		}
		return o.lose(outcome.ErrLost, s.loss()), outcome.ErrLost
	}
	all, err := exec.ToArray()
	if err == nil {
		if o.login != nil && len(all) > 0 {
			s.loggedIn(all[0].Error())
			all = all[1:]
		}
		o.results = results(all)
		return settle, nil
	}
	cause, may := aborted(answers)
	if !transacted(answers) {
		// Without MULTI the commands were carried out one by one.
		return o.lose(cause, loss{}), cause
	}
	if may {
		o.cause = cause
		return repeat, s.refused(cause)
	}
	o.finish(o.refusal(&discarded{cause}))
	return decided, nil
}

// transacted says whether a transaction that EXEC refused did nothing: MULTI
// was accepted, or none of the commands was.
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

// aborted is why EXEC, the last of the answers, did nothing: the first command
// that was turned down, or its own words; and whether another try may succeed.
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

// without is the outcome of an operation that is given up and not in the
// writer's hands.
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

// abandoned is the outcome of an operation that is given up while the writer
// has it.
func (o *operation) abandoned() error {
	switch {
	case o.writes:
		return &Error{Kind: Unknown, Cause: errNoAck}
	case !o.brief:
		return &Error{Kind: GivenUp, Cause: errNoAnswer}
	}
	return &Error{Kind: NotExecuted, Cause: errNoAck}
}

// dismiss gives an expired operation up and answers its outcome; nil when it has
// one, or changes hands just now. waited says that it was in the queue, whose
// account is to be put right (writer.forget).
func (o *operation) dismiss() (waited bool, outcome error) {
	switch {
	case o.state.CompareAndSwap(taken, finished):
		return false, o.abandoned()
	case o.state.CompareAndSwap(queued, finished): // given back before expired was set
		return true, o.without()
	}
	return false, nil
}

// refusal is the outcome of what Redis refused for good. An earlier attempt
// may have happened all the same.
func (o *operation) refusal(cause error) *Error {
	if o.sent {
		return &Error{Kind: Unknown, Cause: cause}
	}
	return &Error{Kind: Refused, Cause: cause}
}

// finish gives the operation its outcome, if its caller still waits. It is
// its caller's from then on. Nothing is waited for here.
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

// discarded is a transaction that Redis did not carry out because of one of
// its commands, whose refusal says more than EXEC's.
type discarded struct{ cause error }

func (d *discarded) Error() string { return d.cause.Error() }

func (d *discarded) Unwrap() error { return d.cause }

// abortWords are the words inside the refusal of an EXEC, which stand behind a
// fixed text (Redis 7.0, multi.c, execCommandAbort); empty: none.
func abortWords(err error) string {
	_, behind, _ := strings.Cut(err.Error(), "because of: ")
	return behind
}
