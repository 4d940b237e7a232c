package redis

import (
	"context"
	"sync"
	"time"
	"unsafe"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/replica"
	"holdfast/internal/redis/request"
)

// Start is Do for a caller that does not wait, such as an event loop. It calls done
// once with what Do would return: before Start returns, or later from another
// goroutine. done must not block. The deadline is that of Config.Hold, some
// milliseconds late at most (see package deadline).
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
	o, err := c.maker.Make(context.Background(), r)
	if err != nil {
		done(err)
		return
	}
	switch {
	case o.Guarded || o.Aside() || o.HasWaiting(r) || !o.Writes && !o.Local && (r.Read == ReadReplica || r.Read == ReadCached && replica.Cacheable(r)):
		// It takes several trips, or a connection on which others wait.
		o.Free()
		c.errand(r, done)
	default:
		o.Request, o.Callback, o.OnDone = r, done, c.concluding
		c.writer.Deadlines.Add(o)
		if err := c.writer.PutWatched(o); err != nil {
			c.conclude(o, true, err)
		}
	}
}

// errand is Start for a request that a goroutine has to wait for.
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

// run has a goroutine run f. It reports false after end.
func (e *errands) run(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return false
	}
	e.work.Go(f)
	return true
}

// end waits for the goroutines under way, and lets no others begin.
func (e *errands) end() {
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
	e.work.Wait()
}

// prompt reports whether the specs of all of the request's commands are known, so that Redis need
// not be asked for them.
func (c *Client) prompt(r *Request) bool {
	if c.cluster != nil {
		return false
	}
	for _, cmd := range r.Commands {
		if c.maker.Known(cmd) == nil {
			return false
		}
	}
	return true
}

// conclude gives the caller of Start the outcome of its operation. over is true if
// nobody else uses the operation any more.
func (c *Client) conclude(o *operation.Operation, over bool, err error) {
	c.writer.Deadlines.Remove(o)
	r, heard := o.Request, o.Callback
	if err == commit.ErrNoScript || err == operation.ErrNoRoom || err == operation.ErrLarge {
		o.OnDone = nil // from here on a goroutine waits for it
		if c.errands.run(func() { heard(c.finish(context.Background(), r, o, true, err)) }) {
			return
		}
		o.Cause = outcome.ErrClosed
		err = o.Without()
	}
	if err == nil {
		err = c.tell(r, o)
	}
	if KindOf(err) == Unknown {
		c.writer.Stats.Unknown.Add(1)
	}
	if over {
		o.Free()
	}
	heard(err)
}

// hit fills in a request's answer from the cache. It reports false if the cache does
// not have it.
func (c *Client) hit(r *Request) bool {
	if c.readers == nil || !replica.Cacheable(r) || command.Reserved(r.Commands[0][1]) {
		return false
	}
	v := c.readers.Hit(r.Commands[0][1], time.Now())
	if v == nil {
		return false
	}
	result, ok := request.ResultOf(v.Reply, v.Reply.Error())
	if text, _ := v.Reply.ToString(); len(text) > meter.ShortAnswer {
		bytes := int64(len(text))
		if !ok || !c.cfg.Answers.Take(bytes) {
			return false
		}
		if !c.cfg.Answers.Claim(r.Client, bytes, false) {
			c.cfg.Answers.Give(bytes)
			return false
		}
		r.Hold(c.cfg.Answers.Ledger, bytes)
	}
	if ok {
		r.Results, r.From, r.Node, r.Lag, r.Token = append(r.Results[:0], result), ReadCached, "", 0, ""
	}
	return ok
}

// Cached returns the value of a key from the cache, as GET would with ReadCached.
// readable is true if it is UTF-8. The value was read by some user of this Client, so
// the caller has to know that its own user may read what that one could. Cached asks
// no Redis, and keeps no reference to the key. The request that it is for must have
// been there at the time now.
func (c *Client) Cached(key []byte, now time.Time) (text string, readable, ok bool) {
	if c.readers == nil {
		return "", false, false
	}
	v := c.readers.Hit(unsafe.String(unsafe.SliceData(key), len(key)), now)
	if v == nil || !v.IsText {
		return "", false, false
	}
	text, _ = v.Reply.ToString()
	return text, v.Readable, true
}
