package redis

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
)

// Redis carries out all that it has read from one connection before it turns to the next. So
// commands whose time grows with the data go in small batches on a connection of their own:
// others, and the Sentinels' pings, get their turn in between.

// slowTogether is how many operations that are not brief go in one batch at most, and slowBudget
// is the sum of their estimates: others wait for so long. An operation whose estimate is higher is
// a batch of its own.
const (
	slowTogether = 64
	slowBudget   = 10 * time.Millisecond
)

// perAnswered is what a byte of an answer counts in an estimate, in nanoseconds: a
// batch has up to TogetherAnswers.
const perAnswered = float64(slowBudget) / meter.TogetherAnswers

// scriptEstimate stands for the time of a user's script, which is not known beforehand:
// it is ended after a quarter of the Sentinels' time at the earliest (see overlong.go).
// A batch has one script, and a transaction may have two.
const scriptEstimate = cost.LongestCommand * 9 / 20

// ErrTooLong returns the error of what would take too long. instead is what a client can do
// instead.
func errTooLong(what string, takes time.Duration, instead string) error {
	words := fmt.Sprintf("ERR %s would keep Redis from everybody else for about %v, and %v is the most", what, takes.Round(10*time.Millisecond), cost.LongestCommand)
	if instead != "" {
		words += "; " + instead
	}
	return outcome.RedisError(words)
}

// tooMany is the error of a slice of a pipeline that is too long: n of its commands go together.
type tooMany struct{ n int }

func (t *tooMany) Error() string { return "too many slow commands at once" }

// affordable reports whether a replica may be asked for all of an operation at once.
// An error means that it did not reply.
func (o *operation) affordable(ctx context.Context, l *conn.Client, inCluster bool) (bool, error) {
	q := questioner{b: l.B(), plain: func(cmd Command) rueidis.Completed { return plain(l.B(), cmd) }}
	q.send = func(cmds rueidis.Commands) []rueidis.RedisResult {
		if !inCluster {
			return l.DoMulti(ctx, cmds...)
		}
		return l.DoMulti(ctx, append(rueidis.Commands{l.B().Readonly().Build()}, cmds...)...)[1:]
	}
	if err := q.ask([]*operation{o}); err != nil {
		return false, err
	}

	costs := o.costs()
	return total(costs) <= cost.LongestCommand && o.expected <= float64(l.Each.Budget), nil
}

// costs returns the estimates of an operation's commands, with what Redis has told. It also sets
// how long the answers are.
func (o *operation) costs() (costs []time.Duration) {
	costs, o.loads, o.expected = make([]time.Duration, len(o.estimates)), make([]time.Duration, len(o.estimates)), 0
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
		o.loads[i] = max(costs[i], time.Duration(perAnswered*bytes))
	}
	return costs
}

func total(costs []time.Duration) (sum time.Duration) {
	for _, c := range costs {
		sum += c
	}
	return sum
}

// tooLong refuses an operation that takes too long, and reports whether it did.
func (o *operation) tooLong(costs []time.Duration) bool {
	switch {
	case o.atomic && len(costs) > 1 && total(costs) > cost.LongestCommand:
		o.finish(o.refusal(&discarded{errTooLong("the transaction", total(costs), "send less at a time")}))
	case len(costs) == 1 && costs[0] > cost.LongestCommand:
		instead := o.estimates[0].Instead
		if instead != "" {
			instead = "use " + instead
		}
		err := o.refusal(errTooLong("'"+strings.ToLower(o.cmds[0][0])+"'", costs[0], instead))
		if o.atomic || o.sent {
			o.finish(err)
			break
		}
		o.results = append(o.results[:0], Result{Err: err})
		o.finish(nil)
	default:
		return false
	}
	return true
}

var scriptSeed = maphash.MakeSeed()

// oneScript reports whether an operation is one script of a user's.
func (o *operation) oneScript() bool { return o.runsScript && len(o.cmds) == 1 && len(o.cmds[0]) > 1 }

// scriptKey stands for the operation's script. It is never 0.
func (o *operation) scriptKey() uint64 { return maphash.String(scriptSeed, o.cmds[0][1]) | 1 }

// lasting reports whether an operation needs the lease: it may take longer than a
// batch of others, or its time is not known.
func (o *operation) lasting() bool { return o.weight >= slowBudget }
