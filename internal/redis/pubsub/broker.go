// Package pubsub hears what the master pushes, for all who listen in this process: messages to
// channels and patterns, changes of keys, and the commands that it carries out (MONITOR). A
// Broker shares one connection among its subscribers, also across a failover.
package pubsub

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// What may wait for one subscriber.
const (
	maxQueued     = 10000
	maxQueuedSize = 4 << 20 // bytes
)

// TopicKind is the kind of a Topic.
type TopicKind int

// The kinds of topics.
const (
	Channel  TopicKind = iota // the channel of that name
	Pattern                   // channels that match
	tracking                  // changes of all keys: see changes.go
)

// Topic is what a subscriber listens to.
type Topic struct {
	Kind TopicKind
	Name string
}

// topic is a Topic that has subscribers. The Broker's mutex guards it.
type topic struct {
	Topic
	order     int64 // of the first to join
	listeners map[*Subscriber]struct{}
	confirmed bool // by the present connection
}

// request is a question to the server whose reply is outstanding: for a topic or, without
// one, for a sign of life.
type request struct {
	topic *topic
	on    bool
}

// Broker shares one connection to the master among all subscribers, and is connected only
// while there is one. It asks for each topic once, however many listen to it. Run owns the
// connection. The other methods are safe for concurrent use.
type Broker struct {
	options conn.Options
	log     *slog.Logger
	monitor *discovery.Monitor
	wake    chan struct{} // something is to be sent

	mu        sync.Mutex
	topics    map[Topic]*topic
	joined    int64 // topics so far
	connected bool
	out       []request // to be sent
	asked     []request // sent; Redis answers in this order
	ended     bool
}

func NewBroker(o conn.Options, log *slog.Logger, m *discovery.Monitor) *Broker {
	return &Broker{options: o, log: log, monitor: m, wake: make(chan struct{}, 1), topics: map[Topic]*topic{}}
}

// Subscriber is a queue from the Broker's goroutine to that of somebody who listens.
type Subscriber struct {
	More chan struct{} // there is something to take
	// lossy: what is too much becomes one message of the kind missed, and does not end the
	// subscriber.
	lossy bool

	mu      sync.Mutex
	queue   []Message
	size    int
	err     error
	pending map[Topic]bool // not confirmed yet
	count   int64          // confirmed
}

func NewSubscriber(lossy bool) *Subscriber {
	return &Subscriber{More: make(chan struct{}, 1), lossy: lossy, pending: map[Topic]bool{}}
}

// Take empties the queue. complete is true once every topic was confirmed.
func (l *Subscriber) Take() (queue []Message, complete bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue, l.queue, l.size = l.queue, nil, 0
	return queue, len(l.pending) == 0, l.err
}

// push queues a message; it never waits.
func (l *Subscriber) push(m Message) {
	l.mu.Lock()
	l.add(m)
	l.mu.Unlock()
	l.nudge()
}

func (l *Subscriber) add(m Message) {
	if l.err != nil {
		return
	}
	if n := len(l.queue); l.lossy && n > 0 && l.queue[n-1].Kind == missed {
		return // it hears of that one after this change, too
	}
	size := 96 + len(m.Channel) + len(m.Pattern) + len(m.Payload)
	if len(l.queue) >= maxQueued || l.size+size > maxQueuedSize && len(l.queue) > 0 {
		if !l.lossy {
			l.err = &outcome.Error{Kind: outcome.Overloaded, Cause: errSlow}
			return
		}
		m, size = Message{Kind: missed}, 0
		l.queue, l.size = nil, 0
	}
	l.queue = append(l.queue, m)
	l.size += size
}

// confirm tells a subscriber that a topic is listened to. It does so once for a subscription:
// a failover after that does not concern the subscriber.
func (l *Subscriber) confirm(n Topic) {
	l.mu.Lock()
	first := l.pending[n]
	delete(l.pending, n)
	if first {
		l.count++
	}
	switch {
	case n.Kind == tracking:
		l.add(Message{Kind: missed})
	case !first:
	case n.Kind == Pattern:
		l.add(Message{Kind: "psubscribe", Pattern: n.Name, Count: l.count})
	default:
		l.add(Message{Kind: "subscribe", Channel: n.Name, Count: l.count})
	}
	l.mu.Unlock()
	l.nudge()
}

func (l *Subscriber) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	l.nudge()
}

func (l *Subscriber) nudge() {
	select {
	case l.More <- struct{}{}:
	default:
	}
}

// Join lets a subscriber hear of topics.
func (h *Broker) Join(l *Subscriber, names []Topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		l.fail(&outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrClosed})
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
			t = &topic{Topic: n, order: h.joined, listeners: map[*Subscriber]struct{}{}}
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

// Leave undoes Join. A topic without subscribers is given up.
func (h *Broker) Leave(l *Subscriber, names []Topic) {
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

// ask queues a request for the present connection. A connection to come asks for all topics.
func (h *Broker) ask(r request) {
	if h.connected {
		h.out = append(h.out, r)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *Broker) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.topics) > 0
}

// Run serves the subscribers until the context ends.
func (h *Broker) Run(ctx context.Context) {
	defer func() {
		h.mu.Lock()
		h.ended = true
		h.failAll(&outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrClosed})
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
				h.failAll(&outcome.Error{Kind: outcome.Refused, Cause: refusal})
				h.mu.Unlock()
			}
			h.log.Debug("a connection for listeners ended", "master", s.Master, "why", err)
			if !clock.Sleep(ctx, conn.DialPause) {
				return
			}
		}
	}
}

// failAll ends all subscribers. The caller holds the mutex.
func (h *Broker) failAll(err error) {
	for n, t := range h.topics {
		for l := range t.listeners {
			l.fail(err)
		}
		delete(h.topics, n)
	}
}

// serve keeps a connection to one master while it is the master and there are subscribers.
func (h *Broker) serve(ctx context.Context, master string) error {
	raw, err := conn.DialRaw(ctx, h.options, master)
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

// begin queues a new connection's first requests: all topics, in the order in which they were
// asked for, which is that of the confirmations.
func (h *Broker) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected, h.out, h.asked = true, nil, nil
	for _, t := range h.topics {
		h.out = append(h.out, request{t, true})
	}
	slices.SortFunc(h.out, func(a, b request) int { return cmp.Compare(a.topic.order, b.topic.order) })
}

func (h *Broker) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected = false
	for _, t := range h.topics {
		t.confirmed = false
	}
}

// pending returns the commands to send now.
func (h *Broker) pending() [][]string {
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

// read hands out what comes on the connection until it ends.
func (h *Broker) read(raw *conn.Raw) error {
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

func (h *Broker) handle(f resp.Frame) error {
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
		if !ok || r.topic == nil || r.topic.Name != f.Items[1].Text {
			return resp.ErrProtocol
		}
		if r.on {
			h.confirm(r.topic)
		}
	case "message":
		if len(f.Items) == 3 && !hiddenMessage(f.Items[1].Text, f.Items[2].Text) {
			h.publish(Topic{Channel, f.Items[1].Text}, Message{Kind: kind, Channel: f.Items[1].Text, Payload: f.Items[2].Text})
		}
	case "pmessage":
		if len(f.Items) == 4 && !hiddenMessage(f.Items[2].Text, f.Items[3].Text) {
			h.publish(Topic{Pattern, f.Items[1].Text},
				Message{Kind: kind, Pattern: f.Items[1].Text, Channel: f.Items[2].Text, Payload: f.Items[3].Text})
		}
	case "invalidate":
		h.invalidate(f.Items[1])
	}
	return nil
}

// answered returns the request that the present reply is to.
func (h *Broker) answered() (request, bool) {
	if len(h.asked) == 0 {
		return request{}, false
	}
	r := h.asked[0]
	h.asked = h.asked[1:]
	return r, true
}

func (h *Broker) confirm(t *topic) {
	t.confirmed = true
	for l := range t.listeners {
		l.confirm(t.Topic)
	}
}

func (h *Broker) refuse(t *topic, words outcome.RedisError) {
	for l := range t.listeners {
		l.fail(&outcome.Error{Kind: outcome.Refused, Cause: words})
	}
	// Whoever comes after asks again.
	if h.topics[t.Topic] == t {
		delete(h.topics, t.Topic)
	}
}

func (h *Broker) publish(n Topic, m Message) {
	t := h.topics[n]
	if t == nil || !t.confirmed {
		return
	}
	for l := range t.listeners {
		l.push(m)
	}
}

// Deliver hands a subscriber what comes for it, until the context ends. It fails if nothing
// could be listened to within hold.
func (h *Broker) Deliver(ctx context.Context, hold time.Duration, l *Subscriber, topics []Topic, hear func(Message)) error {
	h.Join(l, topics)
	defer h.Leave(l, topics)
	patience := time.NewTimer(hold)
	defer patience.Stop()
	for {
		select {
		case <-l.More:
			batch, confirmed, err := l.Take()
			for _, m := range batch {
				hear(m)
			}
			if err != nil {
				return err
			}
			if confirmed {
				patience.Stop()
			}
		case <-patience.C:
			return &outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrNoMaster}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
