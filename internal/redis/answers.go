package redis

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
)

// An operation takes room for its answer here. If a part of the answer was dropped
// (see package meter), the operation gets an error, or another attempt.

// errNoRoom ends an attempt that only reads and whose answer found no room. Only
// Client.finish sees it.
var errNoRoom = errors.New("there was no room for the answer")

// roomPatience is how long an operation waits for room for its answer.
const roomPatience = time.Second

// share returns what so many replies may take, those to the operation's commands among
// them.
func (o *operation) share(replies int) meter.Allowance {
	return meter.Allowance{Replies: replies, Framed: o.atomic, Budget: o.budget, Room: o.room, Always: o.writes}
}

// drop gives back the room that the operation has.
func (o *operation) drop() {
	if o.held > 0 {
		o.ledger.Give(o.held)
		o.held = 0
	}
}

// weigh notes what the replies took. need is how much room another attempt needs if a
// part of the answer was dropped.
func (o *operation) weigh(s meter.Allowance, need int64) {
	if o.room > s.Charged {
		o.ledger.Give(o.room - s.Charged)
	}
	o.room, o.held, o.spent, o.need = 0, s.Charged, s.Spent, need
}

// cutShort gives the commands their error whose answers were dropped, in part or as
// a whole. It returns false when the operation has its outcome: it may try again.
func (o *operation) cutShort() bool {
	for i := range o.results {
		m, err := o.results[i].Reply.Message(), o.results[i].Err
		yes, room := meter.IsCut(m)
		if words := Words(err); words != "" {
			yes, room = meter.CutIn(words)
		}
		if !yes {
			continue
		}
		if !o.writes && room {
			o.drop()
			o.finish(errNoRoom)
			return false
		}
		kind, cause := TooLong, o.ledger.errTooLong()
		if room {
			kind, cause = Crowded, errRoom
		}
		if o.writes && (i >= len(o.effects) || o.effects[i]) {
			kind = Withheld
		}
		o.results[i] = Result{Err: &Error{Kind: kind, Cause: cause}}
	}
	return true
}

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
	if sum > togetherAnswers {
		s.w.wary = waryBatches
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
	s.w.cfg.answers.Give(s.loose)
	s.loose = 0
}

// takeRoom takes room for an answer that is there already, and reports whether there
// was some. Otherwise the operation has none.
func (o *operation) takeRoom(m *rueidis.RedisMessage) bool {
	o.spent += meter.Length(m)
	more := meter.Charged(o.spent) - o.held
	if o.spent > o.budget || more > 0 && !o.ledger.Take(more) {
		o.drop()
		o.spent = 0
		return false
	}
	o.held += max(more, 0)
	return true
}
