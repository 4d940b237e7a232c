package commit

import (
	"context"
	"errors"

	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
)

// ErrNoScript ends an attempt by a script at a transaction that no script can carry out. The
// writer does not go on itself, because other operations wait for it: ByExec does.
var ErrNoScript = errors.New("the transaction is none for a script")

// ByExec has such a transaction take the two trips, within the time that it has left. It returns
// what do returns.
func (w *Writer) ByExec(ctx context.Context, o *operation.Operation) (over bool, err error) {
	o.Guarded = true
	o.Expired.Store(false)
	o.State.Store(operation.Queued)
	ctx, cancel := context.WithDeadline(ctx, o.Until)
	defer cancel()
	over, err = w.Do(ctx, o)
	if kind := outcome.KindOf(err); o.Sent && (kind == outcome.NotExecuted || kind == outcome.Overloaded) {
		err = &outcome.Error{Kind: outcome.Unknown, Cause: err} // this attempt did not happen; one before it may have
	}
	return over, err
}
