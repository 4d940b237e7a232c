package web

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
)

// Limits of a stream of events.
const (
	// heartbeat is how often a quiet stream shows that it lives. Balancers and
	// proxies cut what is quiet for 30 s or a minute; it is shorter than
	// writeTimeout, too, which each write sets anew.
	heartbeat = 10 * time.Second
	// feedLimit is how many bytes may wait for a client that reads slowly. One
	// that is further behind is dropped: it hears nothing wrong, and knows that
	// it missed something.
	feedLimit = 1 << 20
	// allFeeds bounds what waits on all streams together, in bytes: one message may
	// go to thousands of them. A client is dropped, too, for which more would wait
	// than is free of that.
	allFeeds = 128 << 20
)

// feed is what waits to be sent to one client as server-sent events (WHATWG
// HTML, section 9.2). Any goroutine may add to it; that never waits.
type feed struct {
	conn net.Conn
	wake chan struct{} // holds one: there is something to send, or dropped

	// What produces the events does so as long as live does; ended gets what it
	// returned.
	live   context.Context
	cancel context.CancelFunc
	ended  chan error

	unsent *atomic.Int64 // bytes that wait on all streams together

	mu      sync.Mutex
	waiting []byte
	dropped bool
}

// event adds an event. id and name may be empty: none.
func (f *feed) event(id, name, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped {
		return
	}
	before := len(f.waiting)
	size := before + len(data)
	// One event may be as long as a message can be, but none waits behind it.
	if before > 0 && size > feedLimit || int64(size) > allFeeds-f.unsent.Load() {
		f.dropped, f.waiting = true, nil
		f.unsent.Add(-int64(before))
		// A write that waits for the client does not go on waiting.
		_ = f.conn.SetWriteDeadline(time.Now())
	} else {
		if id != "" {
			f.waiting = appendField(f.waiting, "id", id)
		}
		if name != "" {
			f.waiting = appendField(f.waiting, "event", name)
		}
		f.waiting = appendField(f.waiting, "data", data)
		f.waiting = append(f.waiting, '\n')
		f.unsent.Add(int64(len(f.waiting) - before))
	}
	f.nudge()
}

// nudge tells the sender that there is something to send.
func (f *feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take takes all that waits; ok is false when the client was dropped. last is
// what was taken before, to be filled again.
func (f *feed) take(last []byte) (all []byte, ok bool) {
	if cap(last) > feedLimit/16 {
		last = nil // a rare large message is not kept
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all, f.waiting = f.waiting, last[:0]
	return all, !f.dropped
}

// appendField appends a field of an event: a line of its own for each line of
// the text. The format is UTF-8, and ends a line at a carriage return as well.
func appendField(dst []byte, name, text string) []byte {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for {
		end := strings.IndexAny(text, "\r\n")
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		if end < 0 {
			dst = append(dst, text...)
			return append(dst, '\n')
		}
		dst = append(dst, text[:end]...)
		dst = append(dst, '\n')
		if strings.HasPrefix(text[end:], "\r\n") {
			end++
		}
		text = text[end+1:]
	}
}

// stream answers a request with server-sent events, until the client goes,
// the node drains, or produce returns. produce is called by a goroutine of its
// own and adds events to the feed until its context ends. The stream leaves its
// place at its end.
func (s *Server) stream(ctx *fasthttp.RequestCtx, p place, produce func(ctx context.Context, f *feed) error) {
	s.startFeed(ctx, p, produce).sendTo(ctx, s.heartbeat)
}

// streamWhenHeard is stream for what begins with an event: Redis has confirmed
// that it listens. The answer waits for it, and is an error where Redis refuses.
func (s *Server) streamWhenHeard(ctx *fasthttp.RequestCtx, p place, produce func(ctx context.Context, f *feed) error) {
	f := s.startFeed(ctx, p, produce)
	select {
	case <-f.wake:
		f.nudge() // sendTo is to see it
	case err := <-f.ended:
		f.ended <- err
		if redis.KindOf(err) == 0 { // the node ends
			err = &redis.Error{Kind: redis.NotExecuted, Cause: err}
		}
		if len(f.wake) == 0 {
			failJSON(ctx, err)
			return
		}
	}
	f.sendTo(ctx, s.heartbeat)
}

// startFeed has events produced.
func (s *Server) startFeed(ctx *fasthttp.RequestCtx, p place, produce func(ctx context.Context, f *feed) error) *feed {
	f := &feed{conn: ctx.Conn(), unsent: &s.unsent, wake: make(chan struct{}, 1), ended: make(chan error, 1)}
	f.live, f.cancel = context.WithCancel(s.streams)
	go func() {
		defer p.leave()
		err := produce(f.live, f)
		if err != nil && f.live.Err() == nil {
			s.cfg.Logger.Warn("a stream of events ended", "error", err)
		}
		f.cancel()
		f.ended <- err
	}()
	return f
}

// sendTo sends the events of the feed as the answer to a request.
func (f *feed) sendTo(ctx *fasthttp.RequestCtx, every time.Duration) {
	ctx.SetContentType("text/event-stream")
	ctx.Response.Header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	ctx.Response.ImmediateHeaderFlush = true
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		// The order at the end: the producer is told, then waited for; nothing
		// adds to the feed when this returns.
		f.send(f.live, w, every)
		f.cancel()
		<-f.ended
	})
}

// send writes what comes until the context ends or the client is gone.
func (f *feed) send(ctx context.Context, w *bufio.Writer, every time.Duration) {
	beat := time.NewTicker(every)
	defer beat.Stop()
	var last []byte
	sent := 0 // of what was taken; it counts as waiting until it is out
	defer func() { f.unsent.Add(-int64(sent)) }()
	for more := true; more; {
		quiet := false
		select {
		case <-f.wake:
		case <-beat.C:
			quiet = true
		case <-ctx.Done():
			more = false // what waits is still sent
		}
		all, ok := f.take(last)
		if !ok {
			return
		}
		f.unsent.Add(-int64(sent))
		sent = len(all)
		if quiet && len(all) == 0 {
			all = append(all, ":\n\n"...)
		}
		if len(all) == 0 {
			last = all
			continue
		}
		_ = f.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(all); err != nil {
			return
		}
		if err := w.Flush(); err != nil {
			return
		}
		last = all
	}
}
