package commit

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
)

// An operation takes room for its answer here. If a part of the answer was dropped
// (see package meter), the operation gets an error, or another attempt.

// roomPatience is how long an operation waits for room for its answer.
const roomPatience = time.Second

// WithRoom has another attempt made at an operation whose answer found no room, as
// soon as there is some, within roomPatience. It returns what do returns.
func (w *Writer) WithRoom(ctx context.Context, o *operation.Operation) (over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	for {
		if !o.Ledger.Wait(ctx, o.Need) {
			return true, &outcome.Error{Kind: outcome.Crowded, Cause: nil}
		}
		o.Room = o.Ledger.Most(o.Need)
		o.Expired.Store(false)
		o.State.Store(operation.Queued)
		if over, err = w.Do(context.WithoutCancel(ctx), o); err != operation.ErrNoRoom {
			return over, err
		}
	}
}

// exchangeShared is exchange for commands of which the first ones belong together:
// what their replies may take is theirs. cut reports whether something was dropped.
func (s *Session) exchangeShared(ctx context.Context, cmds rueidis.Commands, shares []meter.Allowance) (answers []rueidis.RedisResult, sent, cut bool) {
	s.wire.Meter.Begin(shares)
	answers, sent = s.exchangeBare(ctx, cmds)
	loose, cuts := s.wire.Meter.End()
	s.loose += loose
	return answers, sent, cuts > 0
}

// takeIn takes in what the replies to a batch took: there is a share for each
// operation but the single ones, and then one for each call that carries out some of
// those.
func (s *Session) takeIn(batch []*operation.Operation, shares []meter.Allowance) {
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
		if !o.Single() {
			o.Weigh(shares[i], need)
			i++
		}
	}
	for ; i < len(shares); i++ {
		s.loose += shares[i].Charged
	}
}

// weighSingle takes in what the answer to a single operation took of what was charged
// for all of them.
func (s *Session) weighSingle(o *operation.Operation) {
	if s.loose > 0 && len(o.Results) == 1 {
		o.Held = min(s.loose, meter.Charged(meter.Length(o.Results[0].Reply.Message())))
		s.loose -= o.Held
	}
}

// give gives back what was charged for replies that are dropped.
func (s *Session) give() {
	s.w.cfg.Answers.Give(s.loose)
	s.loose = 0
}
