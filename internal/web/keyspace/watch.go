package keyspace

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/response"
)

// maxPending bounds the changed keys that wait for one watcher of a prefix. Beyond it, the watcher
// is told that it missed some.
const maxPending = 4096

// relisten is the time between two attempts to listen for changes.
const relisten = time.Second

// watchHub tells watchers of changes. All watchers share one listener, which runs while there is any. A
// change only marks the keys that it is about, and watchers then read the present value. So nothing
// piles up behind a slow watcher, and no watcher sees an older value after a newer one.
type watchHub struct {
	changes func(context.Context, func(redis.Change)) error
	logger  *slog.Logger

	mu       sync.Mutex
	topics   map[string]*watchedKey
	prefixes map[*prefixWatch]struct{}
	stop     context.CancelFunc // ends the listener; nil: there is none
	hearing  bool               // the listener has confirmed that it listens
	ended    bool

	listeners sync.WaitGroup
}

func newHub(changes func(context.Context, func(redis.Change)) error, logger *slog.Logger) *watchHub {
	return &watchHub{
		changes: changes, logger: logger,
		topics: map[string]*watchedKey{}, prefixes: map[*prefixWatch]struct{}{},
	}
}

var errEnding = response.NewError(fasthttp.StatusServiceUnavailable, "The node is about to end; ask again, and another one answers.")

// wait refuses further watchers, and waits until nothing of the hub runs.
func (h *watchHub) wait() {
	h.mu.Lock()
	h.ended = true
	if h.stop != nil {
		h.stop()
	}
	h.mu.Unlock()
	h.listeners.Wait()
}

// joined starts the listener with the first watcher, and left stops it with the last one. The
// caller holds h.mu.
func (h *watchHub) joined() {
	if h.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.hearing = stop, false
	h.listeners.Go(func() { h.listen(ctx) })
}

func (h *watchHub) left() {
	if h.stop != nil && len(h.topics) == 0 && len(h.prefixes) == 0 {
		h.stop()
		h.stop = nil
	}
}

func (h *watchHub) listen(ctx context.Context) {
	for {
		err := h.changes(ctx, func(c redis.Change) { h.hear(ctx, c) })
		if ctx.Err() != nil {
			return
		}
		h.logger.Warn("changes of keys are not heard", "error", err, "again in", relisten)
		select {
		case <-time.After(relisten):
		case <-ctx.Done():
			return
		}
	}
}

// hear takes one change from the listener that runs as long as the context.
func (h *watchHub) hear(ctx context.Context, c redis.Change) {
	if strings.HasPrefix(c.Key, ReservedKeys) {
		return // its second key, with the type, is written together with it
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return // another listener may have taken over
	}
	if c.Missed {
		h.hearing = true
		for _, t := range h.topics {
			t.changed()
		}
		for p := range h.prefixes {
			p.missed()
		}
		return
	}
	if t := h.topics[c.Key]; t != nil {
		t.changed()
	}
	for p := range h.prefixes {
		if strings.HasPrefix(c.Key, p.prefix) {
			p.changed(c.Key)
		}
	}
}

// watchedKey is a key that is being watched.
type watchedKey struct {
	// Guarded by the hub's mu:
	changes  uint64 // how often the key may have changed
	watchers map[*keyWatch]struct{}

	// reading is held while one watcher reads for all. It guards what was read, and after which
	// change.
	reading sync.Mutex
	known   bool
	last    keyState
	at      uint64
}

func (t *watchedKey) changed() {
	t.changes++
	for w := range t.watchers {
		poke(w.wake)
	}
}

// poke wakes the goroutine that waits for the channel, once for any number of reasons.
func poke(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// keyWatch is one watcher of a key.
type keyWatch struct {
	h    *watchHub
	key  string
	t    *watchedKey
	wake chan struct{} // the key may have changed
}

// watch returns a watcher of a key, which has to leave.
func (h *watchHub) watch(key string) (*keyWatch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil, errEnding
	}
	t := h.topics[key]
	if t == nil {
		t = &watchedKey{watchers: map[*keyWatch]struct{}{}}
		h.topics[key] = t
	}
	// What was read for the others may be older than a change that the new watcher knows of and
	// that the listener has not heard of yet. So it has to be read anew.
	t.changes++
	w := &keyWatch{h: h, key: key, t: t, wake: make(chan struct{}, 1)}
	t.watchers[w] = struct{}{}
	h.joined()
	return w, nil
}

// watchers returns how many watch a key.
func (h *watchHub) watchers(key string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[key]; t != nil {
		return len(t.watchers)
	}
	return 0
}

func (w *keyWatch) leave() {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	delete(w.t.watchers, w)
	if len(w.t.watchers) == 0 {
		delete(w.h.topics, w.key)
	}
	w.h.left()
}

// now returns what the key holds. Watchers that ask after the same change share one read.
func (w *keyWatch) now(read func(key string) (keyState, error)) (keyState, error) {
	w.t.reading.Lock()
	defer w.t.reading.Unlock()
	w.h.mu.Lock()
	at := w.t.changes
	w.h.mu.Unlock()
	if w.t.known && w.t.at == at {
		return w.t.last, nil
	}
	r, err := read(w.key)
	if err != nil {
		return r, err
	}
	w.t.known, w.t.last, w.t.at = true, r, at
	return r, nil
}

// prefixWatch is one watcher of the keys with a prefix.
type prefixWatch struct {
	h      *watchHub
	prefix string
	wake   chan struct{}

	// Guarded by the hub's mu:
	pending []string
	waiting map[string]bool // the keys in pending
	reset   bool            // any key may have changed
}

// watchPrefix returns a watcher of a prefix, which has to leave. As soon as changes are heard of,
// the watcher is first told that it may have missed some.
func (h *watchHub) watchPrefix(prefix string) (*prefixWatch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil, errEnding
	}
	p := &prefixWatch{h: h, prefix: prefix, wake: make(chan struct{}, 1), waiting: map[string]bool{}}
	if h.hearing {
		p.missed()
	}
	h.prefixes[p] = struct{}{}
	h.joined()
	return p, nil
}

func (p *prefixWatch) leave() {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	delete(p.h.prefixes, p)
	p.h.left()
}

func (p *prefixWatch) changed(key string) {
	switch {
	case p.waiting[key]:
	case len(p.pending) == maxPending:
		p.missed()
	default:
		p.pending = append(p.pending, key)
		p.waiting[key] = true
		poke(p.wake)
	}
}

func (p *prefixWatch) missed() {
	p.reset, p.pending = true, nil
	clear(p.waiting)
	poke(p.wake)
}

// restart is called for a watcher that cannot keep up: it starts again with a reset.
func (p *prefixWatch) restart() {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.missed()
}

// take returns what has changed since the last take: any key when reset is true, and after that
// keys.
func (p *prefixWatch) take() (reset bool, keys []string) {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	reset, keys = p.reset, p.pending
	p.reset, p.pending = false, nil
	clear(p.waiting)
	return reset, keys
}
