package redis

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/moment"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// What may wait for one listener.
const (
	maxQueued     = 10000
	maxQueuedSize = 4 << 20 // bytes
)

type topicKind int

const (
	channel topicKind = iota
	pattern
	tracking // of all keys: see changes.go
)

// topicName is something to listen to.
type topicName struct {
	kind topicKind
	name string
}

// topic is what somebody listens to. The hub's mutex guards it.
type topic struct {
	topicName
	order     int64 // of the first to join
	listeners map[*listener]struct{}
	confirmed bool // by the present connection
}

// request is something asked of the server whose answer is outstanding: a
// topic or, without one, a sign of life.
type request struct {
	topic *topic
	on    bool
}

// hub shares one connection to the master among all who listen, and is
// connected only while somebody does. It asks for each topic once, however
// many listen to it. run owns the connection; the rest may be called by
// anybody.
type hub struct {
	cfg     Config
	monitor *discovery.Monitor
	wake    chan struct{} // something is to be sent

	mu        sync.Mutex
	topics    map[topicName]*topic
	joined    int64 // topics so far
	connected bool
	out       []request // to be sent
	asked     []request // sent; Redis answers in this order
	ended     bool
}

func newHub(cfg Config, m *discovery.Monitor) *hub {
	return &hub{cfg: cfg, monitor: m, wake: make(chan struct{}, 1), topics: map[topicName]*topic{}}
}

// listener is one who listens: a queue from the hub's goroutine to its own.
type listener struct {
	more chan struct{} // there is something to take
	// lossy: what is too much becomes one message of kind missed, instead of
	// the end.
	lossy bool

	mu      sync.Mutex
	queue   []Message
	size    int
	err     error
	pending map[topicName]bool // not confirmed yet
	count   int64              // confirmed
}

func newListener(lossy bool) *listener {
	return &listener{more: make(chan struct{}, 1), lossy: lossy, pending: map[topicName]bool{}}
}

// take empties the queue. complete says that every topic was confirmed.
func (l *listener) take() (queue []Message, complete bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue, l.queue, l.size = l.queue, nil, 0
	return queue, len(l.pending) == 0, l.err
}

// push queues a message; it never waits.
func (l *listener) push(m Message) {
	l.mu.Lock()
	l.add(m)
	l.mu.Unlock()
	l.nudge()
}

func (l *listener) add(m Message) {
	if l.err != nil {
		return
	}
	if n := len(l.queue); l.lossy && n > 0 && l.queue[n-1].Kind == missed {
		return // it hears of that one after this change, too
	}
	size := 96 + len(m.Channel) + len(m.Pattern) + len(m.Payload)
	if len(l.queue) >= maxQueued || l.size+size > maxQueuedSize && len(l.queue) > 0 {
		if !l.lossy {
			l.err = &Error{Kind: Overloaded, Cause: errSlow}
			return
		}
		m, size = Message{Kind: missed}, 0
		l.queue, l.size = nil, 0
	}
	l.queue = append(l.queue, m)
	l.size += size
}

// confirm tells that a topic is listened to. Of a subscription it does once;
// after that a failover is not its listener's business.
func (l *listener) confirm(n topicName) {
	l.mu.Lock()
	first := l.pending[n]
	delete(l.pending, n)
	if first {
		l.count++
	}
	switch {
	case n.kind == tracking:
		l.add(Message{Kind: missed})
	case !first:
	case n.kind == pattern:
		l.add(Message{Kind: "psubscribe", Pattern: n.name, Count: l.count})
	default:
		l.add(Message{Kind: "subscribe", Channel: n.name, Count: l.count})
	}
	l.mu.Unlock()
	l.nudge()
}

func (l *listener) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	l.nudge()
}

func (l *listener) nudge() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// join lets a listener hear of topics.
func (h *hub) join(l *listener, names []topicName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		l.fail(&Error{Kind: NotExecuted, Cause: outcome.ErrClosed})
		return
	}
	l.mu.Lock()
	for _, n := range names {
		l.pending[n] = true
	}
	l.mu.Unlock()
	for _, n := range names {
		t := h.topics[n]
		if t == nil {
			h.joined++
			t = &topic{topicName: n, order: h.joined, listeners: map[*listener]struct{}{}}
			h.topics[n] = t
			h.ask(request{t, true})
		}
		if _, twice := t.listeners[l]; twice {
			continue
		}
		t.listeners[l] = struct{}{}
		if t.confirmed {
			l.confirm(n)
		}
	}
}

// leave undoes join. What nobody listens to any more is given up.
func (h *hub) leave(l *listener, names []topicName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range names {
		t := h.topics[n]
		if t == nil {
			continue
		}
		delete(t.listeners, l)
		if len(t.listeners) == 0 {
			delete(h.topics, n)
			h.ask(request{t, false})
		}
	}
}

// ask queues a request for the present connection; one to come asks for all
// topics anyway.
func (h *hub) ask(r request) {
	if h.connected {
		h.out = append(h.out, r)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hub) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.topics) > 0
}

// run serves the listeners until the context ends.
func (h *hub) run(ctx context.Context) {
	defer func() {
		h.mu.Lock()
		h.ended = true
		h.failAll(&Error{Kind: NotExecuted, Cause: outcome.ErrClosed})
		h.mu.Unlock()
	}()
	for {
		if !h.wanted() {
			select {
			case <-h.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		s, err := h.monitor.Wait(ctx)
		if err != nil {
			return
		}
		if err := h.serve(ctx, s.Master); err != nil {
			var refusal outcome.RedisError
			if errors.As(err, &refusal) && refusal.LoginRefused() {
				h.mu.Lock()
				h.failAll(&Error{Kind: Refused, Cause: refusal})
				h.mu.Unlock()
			}
			h.cfg.Logger.Debug("a connection for listeners ended", "master", s.Master, "why", err)
			if !moment.Sleep(ctx, conn.DialPause) {
				return
			}
		}
	}
}

// failAll ends all listeners. The caller holds the mutex.
func (h *hub) failAll(err error) {
	for n, t := range h.topics {
		for l := range t.listeners {
			l.fail(err)
		}
		delete(h.topics, n)
	}
}

// serve keeps a connection to one master while it is that and somebody
// listens.
func (h *hub) serve(ctx context.Context, master string) error {
	raw, err := conn.DialRaw(ctx, h.cfg.options(), master)
	if err != nil {
		return err
	}
	h.begin()
	defer h.end()
	broken := make(chan error, 1)
	go func() { broken <- h.read(raw) }()
	over := func(err error) error {
		raw.Close()
		<-broken
		return err
	}
	tick := time.NewTicker(conn.PingInterval)
	defer tick.Stop()
	for {
		if err := raw.Send(h.pending()...); err != nil {
			return over(err)
		}
		s, changed := h.monitor.Now()
		if s.Master != master {
			return over(errMoved)
		}
		select {
		case <-h.wake:
		case <-changed:
		case <-tick.C:
			if !h.wanted() {
				return over(nil)
			}
			h.mu.Lock()
			h.out = append(h.out, request{})
			h.mu.Unlock()
		case err := <-broken:
			raw.Close()
			return err
		case <-ctx.Done():
			return over(ctx.Err())
		}
	}
}

// begin makes a new connection's first requests: all topics, in the order in
// which they were asked for, which is that of the confirmations.
func (h *hub) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected, h.out, h.asked = true, nil, nil
	for _, t := range h.topics {
		h.out = append(h.out, request{t, true})
	}
	slices.SortFunc(h.out, func(a, b request) int { return cmp.Compare(a.topic.order, b.topic.order) })
}

func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected = false
	for _, t := range h.topics {
		t.confirmed = false
	}
}

// pending are the commands to send now.
func (h *hub) pending() [][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	cmds := make([][]string, 0, len(h.out))
	for _, r := range h.out {
		if r.topic == nil {
			cmds = append(cmds, []string{"PING"})
		} else {
			cmds = append(cmds, r.topic.command(r.on))
		}
	}
	h.asked = append(h.asked, h.out...)
	h.out = h.out[:0]
	return cmds
}

// read hands out what the connection brings until it ends.
func (h *hub) read(raw *conn.Raw) error {
	for {
		f, err := raw.Read()
		if err == nil {
			err = h.handle(f)
		}
		if err != nil {
			return err
		}
	}
}

func (h *hub) handle(f resp.Frame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.Kind != '>' {
		r, ok := h.answered()
		switch {
		case !ok:
			return resp.ErrProtocol
		case r.topic == nil || !r.on: // PING, or the end of something
		case f.Kind != '-':
			h.confirm(r.topic)
		case outcome.RedisError(f.Text).Retryable():
			return outcome.RedisError(f.Text)
		default:
			h.refuse(r.topic, outcome.RedisError(f.Text))
		}
		return nil
	}
	if len(f.Items) < 2 {
		return resp.ErrProtocol
	}
	switch kind := f.Items[0].Text; kind {
	case "subscribe", "psubscribe", "unsubscribe", "punsubscribe":
		r, ok := h.answered()
		if !ok || r.topic == nil || r.topic.name != f.Items[1].Text {
			return resp.ErrProtocol
		}
		if r.on {
			h.confirm(r.topic)
		}
	case "message":
		if len(f.Items) == 3 && !hiddenMessage(f.Items[1].Text, f.Items[2].Text) {
			h.publish(topicName{channel, f.Items[1].Text}, Message{Kind: kind, Channel: f.Items[1].Text, Payload: f.Items[2].Text})
		}
	case "pmessage":
		if len(f.Items) == 4 && !hiddenMessage(f.Items[2].Text, f.Items[3].Text) {
			h.publish(topicName{pattern, f.Items[1].Text},
				Message{Kind: kind, Pattern: f.Items[1].Text, Channel: f.Items[2].Text, Payload: f.Items[3].Text})
		}
	case "invalidate":
		h.invalidate(f.Items[1])
	}
	return nil
}

// answered is the request that is answered now.
func (h *hub) answered() (request, bool) {
	if len(h.asked) == 0 {
		return request{}, false
	}
	r := h.asked[0]
	h.asked = h.asked[1:]
	return r, true
}

func (h *hub) confirm(t *topic) {
	t.confirmed = true
	for l := range t.listeners {
		l.confirm(t.topicName)
	}
}

func (h *hub) refuse(t *topic, words outcome.RedisError) {
	for l := range t.listeners {
		l.fail(&Error{Kind: Refused, Cause: words})
	}
	// Whoever comes after asks again.
	if h.topics[t.topicName] == t {
		delete(h.topics, t.topicName)
	}
}

func (h *hub) publish(n topicName, m Message) {
	t := h.topics[n]
	if t == nil || !t.confirmed {
		return
	}
	for l := range t.listeners {
		l.push(m)
	}
}
