package redis

import (
	"errors"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
)

// errNoRoom ends an attempt that only reads and whose answer found no room. Only
// Client.finish sees it.
var errNoRoom = errors.New("there was no room for the answer")

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
		kind, cause := TooLong, o.ledger.ErrTooLong()
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

// claim hands the room that an operation's answer takes to its request, or returns
// the error of a client that has too much of it already.
func (o *operation) claim(r *Request) error {
	r.Spent += o.spent
	if o.held == 0 {
		return nil
	}
	if !o.ledger.Claim(r.Client, o.held, o.writes) {
		return &Error{Kind: Crowded, Cause: errOwnAnswers}
	}
	r.Hold(o.ledger.Ledger, o.held)
	o.held = 0
	return nil
}
