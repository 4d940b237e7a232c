package redis

import (
	"errors"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/resp"
)

// Redis makes the answers to all commands that it has read from a connection before it sends them,
// and its memory has to hold them. Each command on that connection waits for the answers to the
// others. So a command whose answer is long goes aside, as one that is not brief does. There the
// lengths of strings are asked for first: what goes together is bounded by its bytes, and what is
// longer than an answer may be is not asked for at all.
//
// How long an answer is follows from the data, and asking every time would cost every reader. So
// the lengths that answers had are remembered, for all requests of this process. Few commands about
// keys that were not read lately go together.

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
	length, known := o.ledger.Lengths.Of(key)
	o.learns, o.large = key, known && length > 0
	if boundable(cmd) && !o.ledger.PlainReads.Load() {
		o.bounded = inPair
	}
	o.unseen = !known
}

// aside reports whether an operation goes on the connection of those that are not brief or have
// long answers.
func (o *operation) aside() bool { return !o.brief || o.large }

// teach remembers the lengths of an operation's answers.
func (o *operation) teach(results []Result) {
	if o.instead != nil {
		return // others' places
	}
	if o.learns != 0 && len(results) == 1 {
		if o.bounded != unbounded && results[0].Err == nil && results[0].Reply.Type() == resp.Null {
			o.ledger.Lengths.LearnMissing(o.learns)
		} else {
			o.ledger.Lengths.Learn(o.learns, results[0].Length())
		}
		if o.wasBounded && results[0].Err == nil {
			o.ledger.PlainReads.Store(true)
		}
	}
	for _, l := range o.lessons {
		if l.cmd >= len(results) {
			return
		}
		r := &results[l.cmd]
		if l.element < 0 || r.Err != nil {
			o.ledger.Lengths.Learn(l.key, r.Length())
		} else if list, err := r.Reply.Message().ToArray(); err == nil && l.element < len(list) {
			o.ledger.Lengths.Learn(l.key, (&Result{Reply: resp.FromMessage(list[l.element])}).Length())
		}
	}
}

// errLarge ends an attempt at an operation that turned out to have a long answer while it waited.
// The client then has it carried out aside.
var errLarge = errors.New("the answer is long")

// shorten takes commands out of a transaction that only reads: those whose answers find no room
// behind the others. It refuses the transaction if none is left, and reports whether it did.
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

// outcome returns the results of its commands, with those that were taken out.
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

// tooLarge refuses an operation that only reads and whose answer would be too long, before Redis
// makes the answer. It reports whether it did, and returns the costs of what is left.
func (o *operation) tooLarge(costs []time.Duration) (rest []time.Duration, refused bool) {
	if o.writes || o.expected <= float64(o.budget) {
		return costs, false
	}
	err := &Error{Kind: TooLong, Cause: o.ledger.ErrTooLong()}
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
