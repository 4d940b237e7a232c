package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
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

// maxCount is how many elements one call of SCAN or its kin may look at: some
// milliseconds' worth. COUNT is a hint (manual, SCAN), so a smaller one changes no
// iteration.
const maxCount = 10000

// withShortCount returns the options of SCAN or its kin with a COUNT of at most
// maxCount. What is no number stays: Redis has words for it.
func withShortCount(options []string) []string {
	for i := 0; i+1 < len(options); i++ {
		switch {
		case strings.EqualFold(options[i], "match"), strings.EqualFold(options[i], "type"):
			i++ // the pattern may be called COUNT
		case strings.EqualFold(options[i], "count"):
			if n, err := strconv.ParseInt(options[i+1], 10, 64); err == nil && n > maxCount {
				options = slices.Clone(options)
				options[i+1] = strconv.Itoa(maxCount)
			}
			i++
		}
	}
	return options
}

// doInSlices carries out a pipeline in slices, each as long as a batch of slow
// commands may be, one after the other, within the time of one request. Where they
// begin and end is another matter at each attempt: the records are those of the
// request, by the places of its commands.
func (c *Client) doInSlices(ctx context.Context, r *Request, whole *operation) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	record, guarded := whole.record, whole.guarded
	whole.free()
	next := func(begin int) int { return min(begin+int(c.writer.aside.together.Load()), len(r.Commands)) }
	return r.inParts(next, func(part *Request, begin int) error {
		o, err := c.operation(ctx, part)
		if err != nil {
			return err
		}
		o.base = begin
		if o.record != "" {
			// A record has one of two forms: which one must not depend on where
			// a slice ends.
			o.record, o.guarded = record, guarded
		}
		return c.carryOut(ctx, part, o)
	})
}
