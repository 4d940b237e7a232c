package sse

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
)

// Limits of streams of server-sent events.
const (
	// heartbeat is how often a quiet stream shows that it lives. Balancers and proxies cut what is
	// quiet for 30 s or a minute. It is also shorter than httpfast.WriteTimeout, which each write
	// sets anew.
	heartbeat = 10 * time.Second
	// feedLimit is how many bytes may wait for a client that reads slowly. A client that is further
	// behind is dropped. It has then heard nothing wrong, and knows that it missed something.
	feedLimit = 1 << 20
	// allFeeds bounds the bytes that wait on all streams together, since one message may go to
	// thousands of them. A client whose message does not fit into what is left is dropped, too.
	allFeeds = 128 << 20
)

// publisher is where events come from: see web.Store.
type publisher interface {
	Subscribe(ctx context.Context, patterns bool, names []string, hear func(redis.Message)) error
	Monitor(ctx context.Context, hear func(line string)) error
}

// Streams are all streams of server-sent events of a node. Many requests use them at once.
type Streams struct {
	store     publisher
	auth      *auth.Authorizer
	places    *fair.Places
	logger    *slog.Logger
	Heartbeat time.Duration
	unsent    atomic.Int64 // bytes that wait to be sent on all streams
	// life is the context of all streams and long polls; end ends them.
	life context.Context
	End  context.CancelFunc
}

// New returns the streams of a node. It starts nothing.
func New(store publisher, auth *auth.Authorizer, of *fair.Places, logger *slog.Logger) *Streams {
	s := &Streams{store: store, auth: auth, places: of, logger: logger, Heartbeat: heartbeat}
	s.life, s.End = context.WithCancel(context.Background())
	return s
}

// Done is closed when streams and long polls are to end.
func (s *Streams) Done() <-chan struct{} { return s.life.Done() }

// Feed has the events that wait to be sent to one client as server-sent events (WHATWG HTML,
// section 9.2). Any goroutine may add events, which never blocks.
type Feed struct {
	conn net.Conn
	wake chan struct{} // of size 1: there is something to send, or the client was dropped

	// The producer of the events runs as long as live does; ended gets the error that it returned.
	live   context.Context
	cancel context.CancelFunc
	ended  chan error

	unsent *atomic.Int64 // Streams.unsent: bytes that wait on all streams together

	mu      sync.Mutex
	waiting []byte
	dropped bool
}

// Event adds an event. id and name may be empty: then it has none.
func (f *Feed) Event(id, name, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped {
		return
	}
	before := len(f.waiting)
	size := before + len(data)
	// One event may be as long as a message can be, but no other waits behind it.
	if before > 0 && size > feedLimit || int64(size) > allFeeds-f.unsent.Load() {
		f.dropped, f.waiting = true, nil
		f.unsent.Add(-int64(before))
		// End a write that waits for the client now.
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

// nudge wakes the sender.
func (f *Feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits, and reports false when the client was dropped. last is what the
// previous take returned; its memory is used again.
func (f *Feed) take(last []byte) (all []byte, ok bool) {
	if cap(last) > feedLimit/16 {
		last = nil // the memory of a rare large message is not kept
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all, f.waiting = f.waiting, last[:0]
	return all, !f.dropped
}

// appendField appends a field of an event, with a line for each line of the text. The format is
// UTF-8, and a carriage return ends a line, too.
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

// Serve answers a request with server-sent events until the client goes, the node drains, or
// produce returns. produce runs on a goroutine of its own and adds events to the feed until its
// context ends. The stream gives its place p back at its end.
func (s *Streams) Serve(ctx *fasthttp.RequestCtx, p fair.Place, produce func(ctx context.Context, f *Feed) error) {
	s.startFeed(ctx, p, produce).sendTo(ctx, s.Heartbeat)
}

// serveWhenHeard does what serve does, for producers whose first event is that Redis has confirmed the
// subscription. The response waits for that event, and is an error when Redis refuses.
func (s *Streams) serveWhenHeard(ctx *fasthttp.RequestCtx, p fair.Place, produce func(ctx context.Context, f *Feed) error) {
	f := s.startFeed(ctx, p, produce)
	select {
	case <-f.wake:
		f.nudge() // wakes sendTo for the same event
	case err := <-f.ended:
		f.ended <- err
		if redis.KindOf(err) == 0 { // the node ends
			err = &redis.Error{Kind: redis.NotExecuted, Cause: err}
		}
		if len(f.wake) == 0 {
			response.SendError(ctx, err)
			return
		}
	}
	f.sendTo(ctx, s.Heartbeat)
}

// startFeed starts to produce events.
func (s *Streams) startFeed(ctx *fasthttp.RequestCtx, p fair.Place, produce func(ctx context.Context, f *Feed) error) *Feed {
	f := &Feed{conn: ctx.Conn(), unsent: &s.unsent, wake: make(chan struct{}, 1), ended: make(chan error, 1)}
	f.live, f.cancel = context.WithCancel(s.life)
	go func() {
		defer p.Leave()
		err := produce(f.live, f)
		if err != nil && f.live.Err() == nil {
			s.logger.Warn("a stream of events ended", "error", err)
		}
		f.cancel()
		f.ended <- err
	}()
	return f
}

// sendTo sends the events of the feed as the response to a request.
func (f *Feed) sendTo(ctx *fasthttp.RequestCtx, every time.Duration) {
	ctx.SetContentType("text/event-stream")
	ctx.Response.Header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	ctx.Response.ImmediateHeaderFlush = true
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		// At the end the producer is told first and then waited for, so that nothing adds to the
		// feed after this returns.
		f.send(f.live, w, every)
		f.cancel()
		<-f.ended
	})
}

// send writes what comes until the context ends or the client is gone.
func (f *Feed) send(ctx context.Context, w *bufio.Writer, every time.Duration) {
	beat := time.NewTicker(every)
	defer beat.Stop()
	var last []byte
	sent := 0 // of what was taken; it counts as unsent until it is written
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
		_ = f.conn.SetWriteDeadline(time.Now().Add(httpfast.WriteTimeout))
		if _, err := w.Write(all); err != nil {
			return
		}
		if err := w.Flush(); err != nil {
			return
		}
		last = all
	}
}
