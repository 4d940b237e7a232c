package operation

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
)

// Redis carries out all that it has read from one connection before it turns to the next. So
// commands whose time grows with the data go in small batches on a connection of their own:
// others, and the Sentinels' pings, get their turn in between.

// SlowTogether is how many operations that are not brief go in one batch at most, and SlowBudget
// is the sum of their estimates: others wait for so long. An operation whose estimate is higher is
// a batch of its own.
const (
	SlowTogether = 64
	SlowBudget   = 10 * time.Millisecond
)

// perAnswered is what a byte of an answer counts in an estimate, in nanoseconds: a
// batch has up to TogetherAnswers.
const perAnswered = float64(SlowBudget) / meter.TogetherAnswers

// scriptEstimate stands for the time of a user's script, which is not known beforehand:
// it is ended after a quarter of the Sentinels' time at the earliest (package commit, overlong.go).
// A batch has one script, and a transaction may have two.
const scriptEstimate = cost.LongestCommand * 9 / 20

// ErrTooLong returns the error of what would take too long. instead is what a client can do
// instead.
func errTooSlow(what string, takes time.Duration, instead string) error {
	words := fmt.Sprintf("ERR %s would keep Redis from everybody else for about %v, and %v is the most", what, takes.Round(10*time.Millisecond), cost.LongestCommand)
	if instead != "" {
		words += "; " + instead
	}
	return outcome.RedisError(words)
}

// TooMany is the error of a slice of a pipeline that is too long: n of its commands go together.
type TooMany struct{ N int }

func (t *TooMany) Error() string { return "too many slow commands at once" }

// Affordable reports whether a replica may be asked for all of an operation at once.
// An error means that it did not reply.
func (o *Operation) Affordable(ctx context.Context, l *conn.Client, inCluster bool) (bool, error) {
	q := Questioner{B: l.B(), Plain: func(cmd command.Command) rueidis.Completed { return Plain(l.B(), cmd) }}
	q.Send = func(cmds rueidis.Commands) []rueidis.RedisResult {
		if !inCluster {
			return l.DoMulti(ctx, cmds...)
		}
		return l.DoMulti(ctx, append(rueidis.Commands{l.B().Readonly().Build()}, cmds...)...)[1:]
	}
	if err := q.Ask([]*Operation{o}); err != nil {
		return false, err
	}

	costs := o.Costs()
	return Total(costs) <= cost.LongestCommand && o.expected <= float64(l.Each.Budget), nil
}

// Costs returns the estimates of an operation's commands, with what Redis has told. It also sets
// how long the answers are.
func (o *Operation) Costs() (costs []time.Duration) {
	costs, o.Loads, o.expected = make([]time.Duration, len(o.estimates)), make([]time.Duration, len(o.estimates)), 0
	o.lengths = o.lengths[:0]
	for i := range o.estimates {
		e := &o.estimates[i]
		costs[i] = time.Duration(min(e.Nanoseconds(e.Sizes[:e.Timed], e.Weights), float64(time.Hour)))
		if e.Whole && len(e.Asks) == 1 {
			costs[i] = min(costs[i], cost.LongestCommand) // one value: limits.answer bounds it
		}
		bytes, sure := e.Answer(e.Sizes)
		length := bytes
		if !sure {
			length = 0
		}
		o.expected += length
		o.lengths = append(o.lengths, length)
		o.Loads[i] = max(costs[i], time.Duration(perAnswered*bytes))
	}
	return costs
}

// Total returns the sum of costs.
func Total(costs []time.Duration) (sum time.Duration) {
	for _, c := range costs {
		sum += c
	}
	return sum
}

// TooLong refuses an operation that takes too long, and reports whether it did.
func (o *Operation) TooLong(costs []time.Duration) bool {
	switch {
	case o.Atomic && len(costs) > 1 && Total(costs) > cost.LongestCommand:
		o.Finish(o.Refusal(&Discarded{errTooSlow("the transaction", Total(costs), "send less at a time")}))
	case len(costs) == 1 && costs[0] > cost.LongestCommand:
		instead := o.estimates[0].Instead
		if instead != "" {
			instead = "use " + instead
		}
		err := o.Refusal(errTooSlow("'"+strings.ToLower(o.Cmds[0][0])+"'", costs[0], instead))
		if o.Atomic || o.Sent {
			o.Finish(err)
			break
		}
		o.Results = append(o.Results[:0], request.Result{Err: err})
		o.Finish(nil)
	default:
		return false
	}
	return true
}

var scriptSeed = maphash.MakeSeed()

// OneScript reports whether an operation is one script of a user's.
func (o *Operation) OneScript() bool { return o.RunsScript && len(o.Cmds) == 1 && len(o.Cmds[0]) > 1 }

// ScriptKey stands for the operation's script. It is never 0.
func (o *Operation) ScriptKey() uint64 { return maphash.String(scriptSeed, o.Cmds[0][1]) | 1 }

// Lasting reports whether an operation needs the lease: it may take longer than a
// batch of others, or its time is not known.
func (o *Operation) Lasting() bool { return o.Weight >= SlowBudget }
