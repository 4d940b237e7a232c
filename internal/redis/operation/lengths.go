package operation

import (
	"errors"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
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
func (o *Operation) foresee(kind command.AnswerKind, cmd command.Command) {
	key := kind.Key(cmd)
	if key == 0 {
		return
	}
	length, known := o.Ledger.Lengths.Of(key)
	o.Learns, o.large = key, known && length > 0
	if Boundable(cmd) && !o.Ledger.PlainReads.Load() {
		o.Bounded = InPair
	}
	o.Unseen = !known
}

// Aside reports whether an operation goes on the connection of those that are not brief or have
// long answers.
func (o *Operation) Aside() bool { return !o.Brief || o.large }

// Teach remembers the lengths of an operation's answers.
func (o *Operation) Teach(results []request.Result) {
	if o.instead != nil {
		return // others' places
	}
	if o.Learns != 0 && len(results) == 1 {
		if o.Bounded != Unbounded && results[0].Err == nil && results[0].Reply.Type() == resp.Null {
			o.Ledger.Lengths.LearnMissing(o.Learns)
		} else {
			o.Ledger.Lengths.Learn(o.Learns, results[0].Length())
		}
		if o.wasBounded && results[0].Err == nil {
			o.Ledger.PlainReads.Store(true)
		}
	}
	for _, l := range o.lessons {
		if l.cmd >= len(results) {
			return
		}
		r := &results[l.cmd]
		if l.element < 0 || r.Err != nil {
			o.Ledger.Lengths.Learn(l.key, r.Length())
		} else if list, err := r.Reply.Message().ToArray(); err == nil && l.element < len(list) {
			o.Ledger.Lengths.Learn(l.key, (&request.Result{Reply: resp.FromMessage(list[l.element])}).Length())
		}
	}
}

// ErrLarge ends an attempt at an operation that turned out to have a long answer while it waited.
// The client then has it carried out aside.
var ErrLarge = errors.New("the answer is long")

// shorten takes commands out of a transaction that only reads: those whose answers find no room
// behind the others. It refuses the transaction if none is left, and reports whether it did.
func (o *Operation) shorten(costs []time.Duration, err *outcome.Error) (rest []time.Duration, refused bool) {
	if len(o.lengths) != len(o.Cmds) {
		return costs, false
	}
	var cmds []command.Command
	var loads []time.Duration
	var estimates []cost.Estimate
	left := float64(o.Budget)
	o.instead = make([]error, len(o.Cmds))
	for i, length := range o.lengths {
		if length > left {
			o.instead[i] = err
			continue
		}
		left -= length
		cmds, estimates = append(cmds, o.Cmds[i]), append(estimates, o.estimates[i])
		rest, loads = append(rest, costs[i]), append(loads, o.Loads[i])
	}
	if len(cmds) == 0 {
		o.Finish(err)
		return nil, true
	}
	o.Cmds, o.estimates, o.Loads = cmds, estimates, loads
	o.Effects, o.Frees = o.Effects[:len(cmds)], o.Frees[:len(cmds)] // none has any
	return rest, false
}

// Outcome returns the results of its commands, with those that were taken out.
func (o *Operation) Outcome() []request.Result {
	if o.instead == nil {
		return o.Results
	}
	all, next := make([]request.Result, len(o.instead)), 0
	for i, err := range o.instead {
		if all[i].Err = err; err == nil && next < len(o.Results) {
			all[i], next = o.Results[next], next+1
		}
	}
	return all
}

// TooLarge refuses an operation that only reads and whose answer would be too long, before Redis
// makes the answer. It reports whether it did, and returns the costs of what is left.
func (o *Operation) TooLarge(costs []time.Duration) (rest []time.Duration, refused bool) {
	if o.Writes || o.expected <= float64(o.Budget) {
		return costs, false
	}
	err := &outcome.Error{Kind: outcome.TooLong, Cause: o.Ledger.ErrTooLong()}
	switch {
	case o.Atomic && len(o.Cmds) > 1:
		return o.shorten(costs, err)
	case len(o.Cmds) == 1 && !o.Atomic:
		o.Results = append(o.Results[:0], request.Result{Err: err})
		o.Finish(nil)
	default:
		return costs, false
	}
	return nil, true
}
