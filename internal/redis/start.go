package redis

import (
	"context"
	"strings"
	"sync"
	"time"
	"unsafe"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
)

// Start is Do for a caller that does not wait, such as an event loop: done gets
// what Do would answer, once, before Start returns or later and then from
// another goroutine. It must not wait itself. The deadline is Config.Hold's,
// some milliseconds late at most (see deadlines).
func (c *Client) Start(r *Request, done func(error)) {
	r.Release()
	if r.Read == ReadCached && c.hit(r) {
		done(nil)
		return
	}
	if !c.prompt(r) {
		c.errand(r, done)
		return
	}
	r.Results, r.From, r.Node, r.Lag, r.Token = r.Results[:0], ReadMaster, "", 0, ""
	o, err := c.operation(context.Background(), r)
	if err != nil {
		done(err)
		return
	}
	switch {
	case o.guarded || o.aside() || o.hasWaiting(r) || !o.writes && !o.local && (r.Read == ReadReplica || r.Read == ReadCached && cacheable(r)):
		// Several trips, or a connection on which others wait.
		o.free()
		c.errand(r, done)
	default:
		o.request, o.heard, o.then = r, done, c.concluding
		c.writer.deadlines.add(o)
		if err := c.writer.putWatched(o); err != nil {
			c.conclude(o, true, err)
		}
	}
}

// errand is Start for what has to be waited for: a goroutine does.
func (c *Client) errand(r *Request, done func(error)) {
	if !c.errands.run(func() { done(c.Do(context.Background(), r)) }) {
		done(&Error{Kind: NotExecuted, Cause: outcome.ErrClosed})
	}
}

// errands owns goroutines, each for one request. Client.Run waits for them.
type errands struct {
	mu    sync.Mutex
	ended bool
	work  sync.WaitGroup
}

// run has a goroutine run f. It answers false when that is too late.
func (e *errands) run(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return false
	}
	e.work.Go(f)
	return true
}

// end waits for those under way; there are no others after them.
func (e *errands) end() {
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
	e.work.Wait()
}

// prompt says that what Redis says of the request's commands is known: nobody
// has to be asked.
func (c *Client) prompt(r *Request) bool {
	if c.cluster != nil {
		return false
	}
	for _, cmd := range r.Commands {
		if c.Known(cmd) == nil {
			return false
		}
	}
	return true
}

// Known is Spec for a caller that does not wait: nil also when Redis would have
// to be asked.
func (c *Client) Known(cmd Command) *Spec {
	if t := c.commands.table.Load(); t != nil {
		return t.Lookup(cmd)
	}
	return nil
}

// conclude tells the starter of an operation of its outcome. Nobody else has to
// do with it any more when it is over.
func (c *Client) conclude(o *operation, over bool, err error) {
	c.writer.deadlines.remove(o)
	r, heard := o.request, o.heard
	if err == errNoScript || err == errNoRoom || err == errLarge {
		o.then = nil // it is waited for
		if c.errands.run(func() { heard(c.finish(context.Background(), r, o, true, err)) }) {
			return
		}
		o.cause = outcome.ErrClosed
		err = o.without()
	}
	if err == nil {
		err = c.tell(r, o)
	}
	if KindOf(err) == Unknown {
		c.writer.stats.unknown.Add(1)
	}
	if over {
		o.free()
	}
	heard(err)
}

// cacheable says that the cache could answer the request: see readers.cached.
func cacheable(r *Request) bool {
	if len(r.Commands) != 1 || r.After != "" {
		return false
	}
	cmd := r.Commands[0]
	return len(cmd) == 2 && strings.EqualFold(cmd[0], "GET")
}

// hit answers a request from the cache, if what it asks for is there.
func (c *Client) hit(r *Request) bool {
	if c.readers == nil || !cacheable(r) || command.Reserved(r.Commands[0][1]) {
		return false
	}
	v := c.readers.hit(r.Commands[0][1], time.Now())
	if v == nil {
		return false
	}
	result, ok := resultOf(v.Reply, v.Reply.Error())
	if text, _ := v.Reply.ToString(); len(text) > meter.ShortAnswer {
		bytes := int64(len(text))
		if !ok || !c.cfg.answers.Take(bytes) {
			return false
		}
		if !c.cfg.answers.Claim(r.Client, bytes, false) {
			c.cfg.answers.Give(bytes)
			return false
		}
		r.hold(c.cfg.answers.Ledger, bytes)
	}
	if ok {
		r.Results, r.From, r.Node, r.Lag, r.Token = append(r.Results[:0], result), ReadCached, "", 0, ""
	}
	return ok
}

// Cached is the text that GET of a key answers from the cache, if it is there: see
// ReadCached; readable says that it is UTF-8. Somebody has read it with this
// Client, so whoever may do what that one could may have it. It asks nobody, and
// keeps nothing of the key. It is for a request that was there at that time.
func (c *Client) Cached(key []byte, now time.Time) (text string, readable, ok bool) {
	if c.readers == nil {
		return "", false, false
	}
	v := c.readers.hit(unsafe.String(unsafe.SliceData(key), len(key)), now)
	if v == nil || !v.IsText {
		return "", false, false
	}
	text, _ = v.Reply.ToString()
	return text, v.Readable, true
}
