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
// most, and slowAlike how many of those that are about one key, or run one script.
// Each may take 80 ms, on a string of 100 MB; so many keys of that size there are
// not.
const (
	slowTogether = 64
	slowAlike    = 4
)

// A batch of slow commands that took less than slowLong lets the next one be twice
// as large. One that took longer for each of its commands, or slowest in all, makes
// it an eighth, down to a single command. Between them a batch may have waited for
// replicas, or for a busy machine.
const (
	slowLong = 10 * time.Millisecond
	slowest  = 100 * time.Millisecond
)

// knownAlike bounds how many keys a pace remembers.
const knownAlike = 4096

// pace is how many slow commands may go in the next batch, and how many of them of
// one key. What no short batch has shown to be short goes by itself.
type pace struct {
	together int
	alike    map[string]int // by slowKey; not there: one
}

func newPace() pace { return pace{together: 1, alike: map[string]int{}} }

// learn takes in how long a batch took.
func (p *pace) learn(b slowBatch, took time.Duration) {
	switch {
	case took > min(slowest, time.Duration(max(1, b.n))*slowLong):
		p.together = max(1, p.together/8)
		for key := range b.alike {
			delete(p.alike, key)
		}
	case took < slowLong && b.n > 0:
		p.together = min(slowTogether, 2*p.together)
		for key, n := range b.alike {
			known, there := p.alike[key]
			if n < max(1, known) || known == slowAlike {
				continue
			}
			if !there && len(p.alike) >= knownAlike {
				clear(p.alike)
			}
			p.alike[key] = min(slowAlike, 2*max(1, known))
		}
	}
}

// slowKey is what a command's time depends on: the one key whose value it grows
// with, the script, or else the name of the command.
func (s *Spec) slowKey(cmd Command) string {
	switch {
	case s == nil:
		return ""
	case s.runsScript() && len(cmd) > 1:
		return s.Name + " " + cmd[1]
	case s.AnyKey:
		return s.Name
	}
	if keys, known := s.Keys(cmd); known && len(keys) == 1 {
		return keys[0]
	}
	return s.Name
}

// slowKeys are those of an operation's commands.
func (c *Client) slowKeys(o *operation) []string {
	keys := o.slowKey[:]
	if len(o.cmds) > 1 {
		keys = make([]string, len(o.cmds))
	}
	for i, cmd := range o.cmds {
		keys[i] = strings.Clone(c.Known(cmd).slowKey(cmd)) // it outlives the request
	}
	return keys
}

// slowBatch counts what goes in one batch of slow commands.
type slowBatch struct {
	pace  *pace
	n     int
	alike map[string]int // by slowKey
}

// add reports whether commands with these keys may go in the batch as well, and
// counts them then. The first ones may in any case.
func (b *slowBatch) add(keys []string) bool {
	if b.n > 0 && b.n+len(keys) > b.pace.together {
		return false
	}
	if b.alike == nil {
		b.alike = map[string]int{}
	}
	for i, key := range keys {
		b.alike[key]++
		if b.n > 0 && b.alike[key] > max(1, b.pace.alike[key]) {
			for _, key := range keys[:i+1] {
				b.alike[key]--
			}
			return false
		}
	}
	b.n += len(keys)
	return true
}

// sliceOf returns how many of the commands with these keys go together now.
func (w *writer) sliceOf(keys []string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	slice := slowBatch{pace: &w.pace}
	n := 0
	for n < len(keys) && slice.add(keys[n:n+1]) {
		n++
	}
	return n
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
	record, guarded, keys := whole.record, whole.guarded, whole.slowKeys
	whole.free()
	next := func(begin int) int { return begin + c.writer.aside.sliceOf(keys[begin:]) }
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
