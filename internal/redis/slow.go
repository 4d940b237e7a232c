package redis

import (
	"context"
	"time"
)

// Redis carries out all that it has read from one connection before it turns to
// the next. Many commands whose time grows with the data therefore go in small
// batches on a connection of their own: others, and the Sentinels' pings, get
// their turn in between.

// slowTogether is how many commands that are not brief go in one batch at the
// most. They may each take some 20 ms, on strings of 100 MB.
const slowTogether = 8

// A batch of slow commands that took less than slowShort lets the next one be
// larger by one command; one that took longer than slowLong brings it back to a
// single one.
const (
	slowShort = 4 * time.Millisecond
	slowLong  = 10 * time.Millisecond
)

// togetherAfter returns how many slow commands may go in the next batch, after one
// with so many allowed took so long.
func togetherAfter(together int, took time.Duration) int {
	switch {
	case took > slowLong:
		return 1
	case took < slowShort:
		return min(slowTogether, together+1)
	}
	return together
}

// doInSlices carries out a pipeline in slices, each as long as a batch of slow
// commands may be, one after the other, within the time of one request. Where they
// begin and end is another matter at each attempt: the records are those of the
// request, by the places of its commands.
func (c *Client) doInSlices(ctx context.Context, r *Request, whole *operation) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	record := whole.record
	whole.free()
	next := func(begin int) int { return min(begin+int(c.writer.aside.together.Load()), len(r.Commands)) }
	return r.inParts(next, func(part *Request, begin int) error {
		o, err := c.operation(ctx, part)
		if err != nil {
			return err
		}
		o.base = begin
		if o.record != "" {
			o.record = record
		}
		return c.carryOut(ctx, part, o)
	})
}
