package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/outcome"
)

// Redis carries out all that it has read from one connection before it turns to
// the next. Many commands whose time grows with the data therefore go in small
// batches on a connection of their own: others, and the Sentinels' pings, get
// their turn in between.

// slowTogether is how many operations that are not brief go in one batch at the most,
// and slowBudget what their estimates come to: others' wait for so long. An
// operation whose estimate is higher is a batch of its own.
const (
	slowTogether = 64
	slowBudget   = 10 * time.Millisecond
)

// perAnswered is what a byte of an answer counts in an estimate, in nanoseconds: a
// batch has up to togetherAnswers.
const perAnswered = float64(slowBudget) / togetherAnswers

// scriptEstimate stands for the time of a user's script, which is not known beforehand:
// it is ended after a quarter of the Sentinels' time at the earliest (see overlong.go).
// A batch has one script, and a transaction may have two.
const scriptEstimate = cost.LongestCommand * 9 / 20

// estimates are those of an operation's commands.
func (c *Client) estimates(o *operation) []cost.Estimate {
	all := o.estimate[:]
	if len(o.cmds) > 1 {
		all = make([]cost.Estimate, len(o.cmds))
	}
	for i, cmd := range o.cmds {
		spec := c.Known(cmd)
		all[i] = cost.Of(spec, cmd)
		if spec != nil && spec.RunsScript() {
			all[i].Base += float64(scriptEstimate)
		}
		measure(spec, &all[i], cmd, &o.ledger.lengths)
	}
	return all
}

// errTooLong refuses what would take too long; instead is what a client is to do.
func errTooLong(what string, takes time.Duration, instead string) error {
	words := fmt.Sprintf("ERR %s would keep Redis from everybody else for about %v, and %v is the most", what, takes.Round(10*time.Millisecond), cost.LongestCommand)
	if instead != "" {
		words += "; " + instead
	}
	return outcome.RedisError(words)
}

// longestRest bounds the pause after a slow batch.
const longestRest = 50 * time.Millisecond

// rest leaves the master to others for a quarter of the time that a slow batch took.
// A node does not know what other nodes send, and they may send as much.
func (s *session) rest(took time.Duration) {
	if took > slowBudget {
		s.pause = max(s.pause, min(took/4, longestRest))
	}
}

// tooMany is the error for a slice of a pipeline that is too long: n of its commands go
// together.
type tooMany struct{ n int }

func (t *tooMany) Error() string { return "too many slow commands at once" }

// weigh estimates what the operations of a batch take, and returns those that go
// together now. It refuses those that take too long; the others go back to
// the queue. An error ends the session: nothing was sent then.
func (s *session) weigh(ctx context.Context, batch []*operation) ([]*operation, error) {
	q := questioner{b: s.conn.B(), plain: s.plain, send: func(cmds rueidis.Commands) []rueidis.RedisResult {
		answers, _ := s.exchange(ctx, cmds)
		return answers
	}}
	if q.ask(batch) != nil {
		for _, o := range batch {
			o.cause = outcome.ErrLost
			s.again = append(s.again, o)
		}
		return nil, outcome.ErrLost
	}
	fit, left, full := batch[:0], time.Duration(slowBudget), false
	// One script is the most, however short it was before: its arguments and the data
	// decide how long it takes, and what is sent behind it cannot be called back.
	scripts := false
	for i, o := range batch {
		costs := o.costs()
		if o.oneScript() && costs[0] <= cost.LongestCommand {
			costs[0] = s.w.lines.scriptCost(o)
			strict, err := s.strict(ctx)
			if err != nil {
				s.again = append(append(s.again, fit...), batch[i:]...)
				return nil, err
			}
			if strict {
				costs[0] = max(costs[0], slowBudget)
			}
			o.loads[0] = costs[0]
		}
		costs, refused := o.tooLarge(costs)
		if refused {
			continue // it is its caller's again
		}
		switch o.weight = total(o.loads); {
		case o.tooLong(costs):
		case full, len(fit) > 0 && o.weight > left:
			full = true
			s.again = append(s.again, o)
		case o.runsScript && scripts:
			s.again = append(s.again, o)
		case !o.atomic && len(o.loads) > 1 && o.weight > left:
			n := 0
			for n < len(o.loads) && (n == 0 || o.loads[n] <= left) {
				left -= o.loads[n]
				n++
			}
			o.finish(&tooMany{n})
		case o.lasting() && !o.lasts:
			o.lasts = true // others do not wait for it
			s.again = append(s.again, o)
		case o.lasting():
			held, err := s.lease(ctx, o)
			if err != nil {
				s.again = append(s.again, batch[i:]...)
				return nil, err
			}
			if held {
				fit, full = append(fit, o), true
				continue
			}
			s.w.leaseAsked = time.Now()
			s.again = append(s.again, o)
		default:
			fit = append(fit, o)
			left -= o.weight
			scripts = scripts || o.runsScript
		}
	}
	s.w.mu.Lock()
	s.w.turn.weighed(fit)
	s.w.mu.Unlock()
	return fit, nil
}

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

// costs are the estimates of an operation's commands, with what Redis has told. It
// sets what the answers come to, too.
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

// doInSlices carries out a pipeline in slices, each as long as a batch of slow
// commands may be, one after the other, within the time of one request. Where they
// begin and end is another matter at each attempt: the records are those of the
// request, by the places of its commands.
func (c *Client) doInSlices(ctx context.Context, r *Request, whole *operation) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	record, guarded := whole.record, whole.guarded
	together := slowTogether
	if whole.brief { // the answers' bytes bound it
		together = maxExpress
	}
	whole.free()
	next := func(begin int) int { return min(begin+together, len(r.Commands)) }
	return r.inParts(c.cfg.answers.Ledger, next, func(part *Request, begin int) error {
		part.wary = true
		for {
			o, err := c.operation(ctx, part)
			if err != nil {
				return err
			}
			o.base = begin
			if o.record != "" {
				// A record has one of two forms: which one must not depend on where
				// a slice ends.
				o.record, o.guarded = record, guarded
			}
			err = c.carryOut(ctx, part, o)
			var many *tooMany
			if !errors.As(err, &many) {
				return err
			}
			part.Commands = part.Commands[:many.n]
		}
	})
}
