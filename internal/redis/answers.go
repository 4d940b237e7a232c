package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
)

// An operation takes room for its answer here. If a part of the answer was dropped
// (see package meter), the operation gets an error, or another attempt.

// roomPatience is how long an operation waits for room for its answer.
const roomPatience = time.Second

// withRoom has another attempt made at an operation whose answer found no room, as
// soon as there is some, within roomPatience. It returns what do returns.
func (w *writer) withRoom(ctx context.Context, o *operation) (over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	for {
		if !o.ledger.Wait(ctx, o.need) {
			return true, &Error{Kind: Crowded, Cause: nil}
		}
		o.room = o.ledger.Most(o.need)
		o.expired.Store(false)
		o.state.Store(queued)
		if over, err = w.do(context.WithoutCancel(ctx), o); err != errNoRoom {
			return over, err
		}
	}
}

// exchangeShared is exchange for commands of which the first ones belong together:
// what their replies may take is theirs. cut reports whether something was dropped.
func (s *session) exchangeShared(ctx context.Context, cmds rueidis.Commands, shares []meter.Allowance) (answers []rueidis.RedisResult, sent, cut bool) {
	s.wire.Meter.Begin(shares)
	answers, sent = s.exchangeBare(ctx, cmds)
	loose, cuts := s.wire.Meter.End()
	s.loose += loose
	return answers, sent, cuts > 0
}

// takeIn takes in what the replies to a batch took: there is a share for each
// operation but the single ones, and then one for each call that carries out some of
// those.
func (s *session) takeIn(batch []*operation, shares []meter.Allowance) {
	s.shares = shares
	need, sum := int64(0), int64(0)
	for i := range shares {
		need = max(need, shares[i].Need)
		sum += shares[i].Spent
	}
	if sum > meter.TogetherAnswers {
		s.w.wary = meter.WaryBatches
	}
	i := 0
	for _, o := range batch {
		if !o.single() {
			o.weigh(shares[i], need)
			i++
		}
	}
	for ; i < len(shares); i++ {
		s.loose += shares[i].Charged
	}
}

// weighSingle takes in what the answer to a single operation took of what was charged
// for all of them.
func (s *session) weighSingle(o *operation) {
	if s.loose > 0 && len(o.results) == 1 {
		o.held = min(s.loose, meter.Charged(meter.Length(o.results[0].Reply.Message())))
		s.loose -= o.held
	}
}

// give gives back what was charged for replies that are dropped.
func (s *session) give() {
	s.w.cfg.Answers.Give(s.loose)
	s.loose = 0
}
