package redis

import (
	"context"
	"errors"
	"strconv"

	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/readpipe"
)

// doInSlices carries out a pipeline in slices, one after the other, within the time of one request.
// Each is as long as a batch of slow commands may be. Where they begin and end may differ at each
// attempt: the records are those of the request, by the places of its commands.
func (c *Client) doInSlices(ctx context.Context, r *Request, whole *operation.Operation) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	record, guarded := whole.Record, whole.Guarded
	together := operation.SlowTogether
	if whole.Brief { // the answers' bytes bound it
		together = readpipe.MaxExpress
	}
	whole.Free()
	next := func(begin int) int { return min(begin+together, len(r.Commands)) }
	return r.InParts(c.cfg.Answers.Ledger, next, func(part *Request, begin int) error {
		part.Wary = true
		for {
			o, err := c.maker.Make(ctx, part)
			if err != nil {
				return err
			}
			o.Base = begin
			if o.Record != "" {
				// A record has one of two forms: which one must not depend on where
				// a slice ends.
				o.Record, o.Guarded = record, guarded
			}
			err = c.carryOut(ctx, part, o)
			var many *operation.TooMany
			if !errors.As(err, &many) {
				return err
			}
			part.Commands = part.Commands[:many.N]
		}
	})
}

// doInParts carries out a pipeline with commands that may wait for data (see
// operation.HasWaiting), one part after the other.
func (c *Client) doInParts(ctx context.Context, r *Request) error {
	all := r.Commands
	waits := func(i int) bool {
		spec := c.maker.Known(all[i])
		return spec != nil && spec.Waits(all[i])
	}
	next := func(begin int) int {
		end := begin + 1
		for !waits(begin) && end < len(all) && !waits(end) {
			end++
		}
		return end
	}
	return r.InParts(c.cfg.Answers.Ledger, next, func(part *Request, begin int) error {
		if r.IdempotencyKey != "" {
			part.IdempotencyKey = r.IdempotencyKey + "\x00" + strconv.Itoa(begin) // each part has its record
		}
		return c.do(ctx, part)
	})
}
