package operation

import (
	"errors"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
)

// ErrNoRoom ends an attempt that only reads and whose answer found no room. Only
// Client.finish sees it.
var ErrNoRoom = errors.New("there was no room for the answer")

// Share returns what so many replies may take, those to the operation's commands among
// them.
func (o *Operation) Share(replies int) meter.Allowance {
	return meter.Allowance{Replies: replies, Framed: o.Atomic, Budget: o.Budget, Room: o.Room, Always: o.Writes}
}

// Drop gives back the room that the operation has.
func (o *Operation) Drop() {
	if o.Held > 0 {
		o.Ledger.Give(o.Held)
		o.Held = 0
	}
}

// Weigh notes what the replies took. need is how much room another attempt needs if a
// part of the answer was dropped.
func (o *Operation) Weigh(s meter.Allowance, need int64) {
	if o.Room > s.Charged {
		o.Ledger.Give(o.Room - s.Charged)
	}
	o.Room, o.Held, o.Spent, o.Need = 0, s.Charged, s.Spent, need
}

// CutShort gives the commands their error whose answers were dropped, in part or as
// a whole. It returns false when the operation has its outcome: it may try again.
func (o *Operation) CutShort() bool {
	for i := range o.Results {
		m, err := o.Results[i].Reply.Message(), o.Results[i].Err
		yes, room := meter.IsCut(m)
		if words := outcome.Words(err); words != "" {
			yes, room = meter.CutIn(words)
		}
		if !yes {
			continue
		}
		if !o.Writes && room {
			o.Drop()
			o.Finish(ErrNoRoom)
			return false
		}
		kind, cause := outcome.TooLong, o.Ledger.ErrTooLong()
		if room {
			kind, cause = outcome.Crowded, errRoom
		}
		if o.Writes && (i >= len(o.Effects) || o.Effects[i]) {
			kind = outcome.Withheld
		}
		o.Results[i] = request.Result{Err: &outcome.Error{Kind: kind, Cause: cause}}
	}
	return true
}

// TakeRoom takes room for an answer that is there already, and reports whether there
// was some. Otherwise the operation has none.
func (o *Operation) TakeRoom(m *rueidis.RedisMessage) bool {
	o.Spent += meter.Length(m)
	more := meter.Charged(o.Spent) - o.Held
	if o.Spent > o.Budget || more > 0 && !o.Ledger.Take(more) {
		o.Drop()
		o.Spent = 0
		return false
	}
	o.Held += max(more, 0)
	return true
}

// Claim hands the room that an operation's answer takes to its request, or returns
// the error of a client that has too much of it already.
func (o *Operation) Claim(r *request.Request) error {
	r.Spent += o.Spent
	if o.Held == 0 {
		return nil
	}
	if !o.Ledger.Claim(r.Client, o.Held, o.Writes) {
		return &outcome.Error{Kind: outcome.Crowded, Cause: errOwnAnswers}
	}
	r.Hold(o.Ledger.Ledger, o.Held)
	o.Held = 0
	return nil
}
