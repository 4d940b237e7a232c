package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/resp"
)

// Redis makes the answers to all commands that it has read from a connection before it
// sends them, and its memory has to hold them. Each command on that connection waits
// for the answers to the others. So a command whose answer is long goes aside, as one
// that is not brief does, and there the lengths of strings are asked for first: what
// goes together is bounded by its bytes, and what is longer than an answer may be is
// not asked for at all.
//
// How long an answer is follows from the data, and asking every time would cost every
// reader. So the lengths that answers had are remembered, for everybody in this
// process. Few commands about keys that were not read lately go together.

const (
	// largeAnswer is from how many bytes on an answer goes aside.
	largeAnswer = 64 << 10
	// unseenTwice is how many commands about one key go together while the length of
	// their answers is not known, and unseenKeys is how many such keys one request may
	// have.
	unseenTwice, unseenKeys = 2, 16
	// After a batch whose answers are longer than togetherAnswers, the next waryBatches
	// batches have no more than waryKeys commands about unseen keys each.
	togetherAnswers = 4 << 20
	waryBatches     = 1000
	waryKeys        = 4
	// waryFields is how many fields of an unseen key an Express asks for at once.
	waryFields = 16
)

// missing stands for the answer to a GET of no key, or of an empty string: see bounded.go.
const missing = 1

// lengths remembers how long answers were. Several keys share a place, and the last one
// that was learned has it. It is safe for concurrent use.
type lengths [8192]atomic.Uint64 // the upper half of the key, and the length

// of returns how long an answer was, 0 for one that goes with all others, and whether
// that is known.
func (l *lengths) of(key uint64) (length uint32, known bool) {
	v := l[key>>1%uint64(len(l))].Load()
	if length = uint32(v); length == missing {
		length = 0
	}
	return length, v>>32 == key>>32 && v != 0
}

// wasMissing reports whether the answer was to a GET of no key.
func (l *lengths) wasMissing(key uint64) bool {
	return l[key>>1%uint64(len(l))].Load() == key>>32<<32|missing
}

// learn remembers how long an answer was.
func (l *lengths) learn(key uint64, length int64) {
	if length <= largeAnswer {
		length = 0
	}
	l.keep(key, uint64(min(length, math.MaxUint32)))
}

// learnMissing remembers that the answer was to a GET of no key.
func (l *lengths) learnMissing(key uint64) { l.keep(key, missing) }

func (l *lengths) keep(key, length uint64) {
	v := key>>32<<32 | length
	if at := &l[key>>1%uint64(len(l))]; at.Load() != v {
		at.Store(v)
	}
}

// encounters counts how often each key occurs among some. Two keys may share a count.
type encounters struct {
	round uint16
	slots [256]struct {
		key   uint32
		round uint16
		n     uint16
	}
}

// begin forgets what was counted.
func (r *encounters) begin() {
	if r.round++; r.round == 0 {
		*r = encounters{round: 1}
	}
}

// add counts a key, and returns how often it has occurred.
func (r *encounters) add(key uint64) int {
	s := &r.slots[key>>1%uint64(len(r.slots))]
	if s.key != uint32(key>>32) || s.round != r.round {
		s.key, s.round, s.n = uint32(key>>32), r.round, 0
	}
	if s.n < math.MaxUint16 {
		s.n++
	}
	return int(s.n)
}

// answers is what a Client knows of its answers: the room for long ones, and how long they
// were lately.
type answers struct {
	*meter.Ledger
	longest int // Config.MaxAnswer
	lengths lengths
	// plainReads: Redis lets us have GET, and not what a bounded read is made of.
	plainReads atomic.Bool
}

func newAnswers(room, longest int) *answers {
	return &answers{Ledger: meter.NewLedger(int64(room), int64(room)*ClientAnswers/AnswersHeld), longest: longest}
}

// errTooLong is the cause of an answer that is too long.
func (a *answers) errTooLong() error { return fmt.Errorf("at most %d bytes are possible", a.longest) }

// lesson is a key of which an answer is to be learned: the answer to a command, or an
// element of it.
type lesson struct {
	key          uint64
	cmd, element int
}

// foresee looks up how long the answer to a single command was lately.
func (o *operation) foresee(kind command.AnswerKind, cmd Command) {
	key := kind.Key(cmd)
	if key == 0 {
		return
	}
	length, known := o.ledger.lengths.of(key)
	o.learns, o.large = key, known && length > 0
	if boundable(cmd) && !o.ledger.plainReads.Load() {
		o.bounded = inPair
	}
	o.unseen = !known
}

// foreseeMany is foresee for several commands, or one about several keys. wary: an
// answer of the same request was long, so that one of unknown length may be, too.
//
//go:noinline
func (c *Client) foreseeMany(o *operation, wary bool) {
	var seen, again encounters
	unseen := 0
	met := func(key uint64) {
		unseen++
		o.large = o.large || wary || unseen > unseenKeys || seen.add(key) > unseenTwice
	}
	look := func(key uint64, cmd, element int) (strange bool) {
		length, known := o.ledger.lengths.of(key)
		if known && length == 0 {
			// It may have become long since, so it is not read many times at once.
			o.large = o.large || again.add(key) > command.MaxNamed
			return false
		}
		if o.lessons == nil {
			o.lessons = make([]lesson, 0, len(o.cmds))
		}
		o.lessons = append(o.lessons, lesson{key, cmd, element})
		o.large = o.large || known
		return !known
	}
	for i, cmd := range o.cmds {
		spec := c.Known(cmd)
		switch {
		case spec == nil || spec.AnswerKind == command.ByNothing || len(cmd) < 2:
		case spec.AnswerKind == command.ByKeys:
			for e := range cmd[1:] {
				if key := command.ByKey.Key(cmd[e:]); look(key, i, e) {
					met(key)
				}
			}
		default:
			key := spec.AnswerKind.Key(cmd)
			if key == 0 || !look(key, i, -1) {
				continue
			}
			if met(key); spec.AnswerKind == command.ByHash && len(cmd) > 3 {
				for _, field := range cmd[2:] {
					met(command.ByField.Key(Command{"", cmd[1], field}))
				}
			}
		}
	}
}

// aside reports whether an operation goes on the connection of those that are not
// brief or have long answers.
func (o *operation) aside() bool { return !o.brief || o.large }

// teach remembers the lengths of an operation's answers.
func (o *operation) teach(results []Result) {
	if o.instead != nil {
		return // others' places
	}
	if o.learns != 0 && len(results) == 1 {
		if o.bounded != unbounded && results[0].Err == nil && results[0].Reply.Type() == resp.Null {
			o.ledger.lengths.learnMissing(o.learns)
		} else {
			o.ledger.lengths.learn(o.learns, results[0].length())
		}
		if o.wasBounded && results[0].Err == nil {
			o.ledger.plainReads.Store(true)
		}
	}
	for _, l := range o.lessons {
		if l.cmd >= len(results) {
			return
		}
		r := &results[l.cmd]
		if l.element < 0 || r.Err != nil {
			o.ledger.lengths.learn(l.key, r.length())
		} else if list, err := r.Reply.Message().ToArray(); err == nil && l.element < len(list) {
			o.ledger.lengths.learn(l.key, (&Result{Reply: resp.FromMessage(list[l.element])}).length())
		}
	}
}

// length is how long an answer is that Redis gave just now, or at the least, where it
// was dropped.
func (r *Result) length() int64 {
	if r.Err != nil {
		if yes, _ := meter.CutIn(Words(r.Err)); yes {
			return math.MaxUint32
		}
		return 0
	}
	if yes, _ := meter.IsCut(r.Reply.Message()); yes {
		return math.MaxUint32
	}
	return meter.Length(r.Reply.Message())
}

// errLarge ends an attempt at an operation that turned out to have a long answer while
// it waited. Only putAside's callers see it.
var errLarge = errors.New("the answer is long")

// putAside has an operation carried out there, within the time that it has left. It
// returns what writer.do returns.
func (c *Client) putAside(ctx context.Context, w *writer, o *operation) (over bool, err error) {
	c.enlarge(o)
	o.expired.Store(false)
	o.state.Store(queued)
	ctx, cancel := context.WithDeadline(ctx, o.until)
	defer cancel()
	return w.do(ctx, o)
}

// enlarge has it go aside.
func (c *Client) enlarge(o *operation) {
	if !o.aside() {
		o.large, o.bounded, o.estimates = true, unbounded, c.estimates(o)
	}
}

// measure adds to an estimate what is known, or can be asked, of how long the answer
// is.
func measure(s *Spec, e *cost.Estimate, cmd Command, known *lengths) {
	e.Timed = len(e.Asks)
	if s == nil || !s.Takes(cmd) {
		return
	}
	switch s.Name {
	case "getdel":
		e.Asks = append(e.Asks, Command{"STRLEN", cmd[1]})
	case "get", "getex", "mget", "hget", "hmget":
		e.Whole = true
	case "getrange", "substr":
		e.Ranged = true
	default:
		if key := s.AnswerKind.Key(cmd); s.AnswerKind != command.ByNothing && key != 0 {
			length, seen := known.of(key)
			if seen {
				e.Length = float64(length)
			}
		}
	}
}

// shorten takes those commands out of a transaction that only reads whose answers find
// no room behind the others, and refuses it when none is left. It reports whether it
// did that.
func (o *operation) shorten(costs []time.Duration, err *Error) (rest []time.Duration, refused bool) {
	if len(o.lengths) != len(o.cmds) {
		return costs, false
	}
	var cmds []Command
	var loads []time.Duration
	var estimates []cost.Estimate
	left := float64(o.budget)
	o.instead = make([]error, len(o.cmds))
	for i, length := range o.lengths {
		if length > left {
			o.instead[i] = err
			continue
		}
		left -= length
		cmds, estimates = append(cmds, o.cmds[i]), append(estimates, o.estimates[i])
		rest, loads = append(rest, costs[i]), append(loads, o.loads[i])
	}
	if len(cmds) == 0 {
		o.finish(err)
		return nil, true
	}
	o.cmds, o.estimates, o.loads = cmds, estimates, loads
	o.effects, o.frees = o.effects[:len(cmds)], o.frees[:len(cmds)] // none has any
	return rest, false
}

// outcome is what its commands came to, with those that were taken out.
func (o *operation) outcome() []Result {
	if o.instead == nil {
		return o.results
	}
	all, next := make([]Result, len(o.instead)), 0
	for i, err := range o.instead {
		if all[i].Err = err; err == nil && next < len(o.results) {
			all[i], next = o.results[next], next+1
		}
	}
	return all
}

// tooLarge refuses what only reads and would answer more than it may, before Redis
// makes the answer. It reports whether it did, and returns the costs of what is left.
func (o *operation) tooLarge(costs []time.Duration) (rest []time.Duration, refused bool) {
	if o.writes || o.expected <= float64(o.budget) {
		return costs, false
	}
	err := &Error{Kind: TooLong, Cause: o.ledger.errTooLong()}
	switch {
	case o.atomic && len(o.cmds) > 1:
		return o.shorten(costs, err)
	case len(o.cmds) == 1 && !o.atomic:
		o.results = append(o.results[:0], Result{Err: err})
		o.finish(nil)
	default:
		return costs, false
	}
	return nil, true
}

// foresee looks up how long the answer to a command was lately. It returns false if the
// batch's answers become too long, or if the length is not known and others of the batch
// are about the same key: a writer then bounds what goes together.
func (x *Express) foresee(cmd Command) (ask expressAsk, ok bool) {
	answers := x.w.cfg.answers
	kind := command.ByKey
	switch name := cmd[0]; {
	case len(name) == 3 && strings.EqualFold(name, "get"):
	case len(name) == 4 && strings.EqualFold(name, "hget"):
		kind = command.ByField
	case len(name) == 4 && strings.EqualFold(name, "mget"):
		return ask, x.foreseeEach(cmd)
	case len(name) == 5 && strings.EqualFold(name, "hmget"):
		kind = command.ByHash
	default:
		return ask, true
	}
	if ask.key = kind.Key(cmd); ask.key == 0 {
		return ask, true
	}
	length, seen := answers.lengths.of(ask.key)
	if !seen {
		length = 0 // it is another key's
	}
	if length > 0 {
		x.expected += int(length)
		if length >= maxAnswer || x.expected > togetherAnswers {
			return ask, false
		}
	}
	if boundable(cmd) && !answers.plainReads.Load() {
		ask.end = max(largeAnswer, int(length))
		ask.exists = seen && answers.lengths.wasMissing(ask.key) || !seen && x.misses > 0
	}
	if seen {
		return ask, true
	}
	return ask, x.met.add(ask.key) <= unseenTwice && (kind != command.ByHash || len(cmd) <= 2+waryFields)
}

// foreseeEach is foresee for a command about several keys.
func (x *Express) foreseeEach(cmd Command) (ok bool) {
	for i := range cmd[1:] {
		key := command.ByKey.Key(cmd[i:])
		length, seen := x.w.cfg.answers.lengths.of(key)
		if length > 0 && seen || !seen && (i >= unseenKeys || x.met.add(key) > unseenTwice) {
			return false
		}
	}
	return true
}
