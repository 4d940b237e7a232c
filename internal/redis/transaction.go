package redis

import (
	"context"
	"errors"

	"holdfast/internal/redis/operation"
)

// errNoScript ends an attempt by a script at a transaction that no script can carry out. The
// writer does not go on itself, because other operations wait for it: byExec does.
var errNoScript = errors.New("the transaction is none for a script")

// byExec has such a transaction take the two trips, within the time that it has left. It returns
// what do returns.
func (w *writer) byExec(ctx context.Context, o *operation.Operation) (over bool, err error) {
	o.Guarded = true
	o.Expired.Store(false)
	o.State.Store(operation.Queued)
	ctx, cancel := context.WithDeadline(ctx, o.Until)
	defer cancel()
	over, err = w.do(ctx, o)
	if kind := KindOf(err); o.Sent && (kind == NotExecuted || kind == Overloaded) {
		err = &Error{Kind: Unknown, Cause: err} // this attempt did not happen; one before it may have
	}
	return over, err
}
