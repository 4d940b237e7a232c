package redis

import (
	"context"
	"strconv"

	"holdfast/internal/redis/meter"
)

// A command that may wait for data is carried out in a transaction, where Redis
// does not let it wait. In a pipeline it has a transaction of its own: Redis
// discards a transaction as a whole when it refuses to queue one of its
// commands, and the commands of a pipeline do not depend on each other.

// hasWaiting reports whether an operation is a pipeline with such a command.
func (o *operation) hasWaiting(r *Request) bool {
	return o.atomic && !r.Atomic && len(r.Commands) > 1
}

// doInParts carries out a pipeline with such commands, one part after the other.
func (c *Client) doInParts(ctx context.Context, r *Request) error {
	all := r.Commands
	waits := func(i int) bool {
		spec := c.Known(all[i])
		return spec != nil && spec.Waits(all[i])
	}
	next := func(begin int) int {
		end := begin + 1
		for !waits(begin) && end < len(all) && !waits(end) {
			end++
		}
		return end
	}
	return r.inParts(c.cfg.answers.Ledger, next, func(part *Request, begin int) error {
		if r.IdempotencyKey != "" {
			part.IdempotencyKey = r.IdempotencyKey + "\x00" + strconv.Itoa(begin) // each part has its record
		}
		return c.do(ctx, part)
	})
}

// inParts has a pipeline carried out in parts, one after the other, and puts their
// results together. next returns where the part that begins at a command ends. carry may
// make a part shorter. A part that fails as a whole ends the pipeline: its commands have
// its error, and the commands behind it were not executed. If it is the first part, its
// error is returned.
func (r *Request) inParts(l *meter.Ledger, next func(begin int) int, carry func(part *Request, begin int) error) error {
	results := r.Results[:0]
	for begin, end := 0, 0; begin < len(r.Commands); begin = end {
		end = next(begin)
		part := *r
		part.Commands, part.Results, part.held = r.Commands[begin:end], nil, 0
		err := carry(&part, begin)
		end = begin + len(part.Commands)
		r.absorb(&part)
		r.spent = part.spent
		if more := meter.Charged(r.spent) - r.held; more > 0 && l.Force(more) { // of many that are short
			l.Claim(r.Client, more, true)
			r.hold(l, more)
		}
		if err != nil && begin == 0 {
			return err
		}
		if err != nil {
			for i := range r.Commands[begin:] {
				if begin+i == end {
					err = &Error{Kind: NotExecuted, Cause: err} // the parts behind were not sent
				}
				results = append(results, Result{Err: err})
			}
			break
		}
		results = append(results, part.Results...)
		r.From, r.Node, r.Lag, r.Token = part.From, part.Node, part.Lag, part.Token
	}
	r.Results = results
	return nil
}
