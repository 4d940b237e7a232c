package redis

import (
	"context"
	"errors"
)

// errNoScript ends an attempt by a script at a transaction that no script can carry out. The
// writer does not go on itself, because other operations wait for it: byExec does.
var errNoScript = errors.New("the transaction is none for a script")

// byExec has such a transaction take the two trips, within the time that it has left. It returns
// what do returns.
func (w *writer) byExec(ctx context.Context, o *operation) (over bool, err error) {
	o.guarded = true
	o.expired.Store(false)
	o.state.Store(queued)
	ctx, cancel := context.WithDeadline(ctx, o.until)
	defer cancel()
	over, err = w.do(ctx, o)
	if kind := KindOf(err); o.sent && (kind == NotExecuted || kind == Overloaded) {
		err = &Error{Kind: Unknown, Cause: err} // this attempt did not happen; one before it may have
	}
	return over, err
}
