package commit

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
)

// longestRest bounds the pause after a slow batch.
const longestRest = 50 * time.Millisecond

// rest leaves the master to others for a quarter of the time that a slow batch took.
// A node does not know what other nodes send, and they may send as much.
func (s *Session) rest(took time.Duration) {
	if took > operation.SlowBudget {
		s.pause = max(s.pause, min(took/4, longestRest))
	}
}

// weigh estimates how long the operations of a batch take, and returns those that go together now.
// It refuses those that take too long; the others go back to the queue. An error ends the session:
// nothing was sent then.
func (s *Session) weigh(ctx context.Context, batch []*operation.Operation) ([]*operation.Operation, error) {
	q := operation.Questioner{B: s.conn.B(), Plain: s.plain, Send: func(cmds rueidis.Commands) []rueidis.RedisResult {
		answers, _ := s.exchange(ctx, cmds)
		return answers
	}}
	if q.Ask(batch) != nil {
		for _, o := range batch {
			o.Cause = outcome.ErrLost
			s.again = append(s.again, o)
		}
		return nil, outcome.ErrLost
	}
	fit, left, full := batch[:0], time.Duration(operation.SlowBudget), false
	// A batch has at most one script, however short it was before: its arguments and the data
	// decide how long it takes, and what is sent behind it cannot be called back.
	scripts := false
	for i, o := range batch {
		costs := o.Costs()
		if o.OneScript() && costs[0] <= cost.LongestCommand {
			costs[0] = s.w.lines.ScriptCost(o)
			strict, err := s.strict(ctx)
			if err != nil {
				s.again = append(append(s.again, fit...), batch[i:]...)
				return nil, err
			}
			if strict {
				costs[0] = max(costs[0], operation.SlowBudget)
			}
			o.Loads[0] = costs[0]
		}
		costs, refused := o.TooLarge(costs)
		if refused {
			continue // it belongs to its caller again
		}
		switch o.Weight = operation.Total(o.Loads); {
		case o.TooLong(costs):
		case full, len(fit) > 0 && o.Weight > left:
			full = true
			s.again = append(s.again, o)
		case o.RunsScript && scripts:
			s.again = append(s.again, o)
		case !o.Atomic && len(o.Loads) > 1 && o.Weight > left:
			n := 0
			for n < len(o.Loads) && (n == 0 || o.Loads[n] <= left) {
				left -= o.Loads[n]
				n++
			}
			o.Finish(&operation.TooMany{N: n})
		case o.Lasting() && !o.Lasts:
			o.Lasts = true // others do not wait for it
			s.again = append(s.again, o)
		case o.Lasting():
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
			left -= o.Weight
			scripts = scripts || o.RunsScript
		}
	}
	s.w.mu.Lock()
	s.w.turn.Weighed(fit)
	s.w.mu.Unlock()
	return fit, nil
}
