package redis

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// ledger counts the bytes of long answers that this process holds. An answer counts
// from when its length is known until the client has it. Short ones do not count,
// and so are never refused.
type ledger struct {
	limit  int64
	answer int // Config.MaxAnswer
	// lengths are those that answers had.
	lengths lengths
	// plainReads: Redis lets us have GET, and not what a bounded read is made of.
	plainReads atomic.Bool

	mu      sync.Mutex
	held    int64
	clients map[string]int64 // of held, by Request.Client
	waiting []*ledgerWait    // the first to come first
}

// ledgerWait is one who waits for room.
type ledgerWait struct {
	bytes int64
	room  chan struct{} // closed when there is room, which is taken then
}

// shortAnswer is up to how many bytes an answer does not count.
const shortAnswer = 16 << 10

func newLedger(limit int64) *ledger { return &ledger{limit: limit, clients: map[string]int64{}} }

// errTooLong is the cause of an answer that is too long.
func (l *ledger) errTooLong() error { return fmt.Errorf("at most %d bytes are possible", l.answer) }

// take takes room, and reports whether there was enough. Those who wait come first.
func (l *ledger) take(bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 || l.held+bytes > l.limit {
		return false
	}
	l.held += bytes
	return true
}

// force takes room for the answer to a write, which cannot be asked for again. For
// such answers there is as much room again as for all others. It reports whether there
// was enough.
func (l *ledger) force(bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held+bytes > 2*l.limit {
		return false
	}
	l.held += bytes
	return true
}

// give gives room back.
func (l *ledger) give(bytes int64) {
	if bytes == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held -= bytes
	l.serve()
}

// serve gives room to those who wait. The caller holds the mutex.
func (l *ledger) serve() {
	for len(l.waiting) > 0 && l.held+l.waiting[0].bytes <= l.limit {
		l.held += l.waiting[0].bytes
		close(l.waiting[0].room)
		l.waiting = l.waiting[1:]
	}
}

// wait waits for room and takes it. It returns false when the context ends first.
func (l *ledger) wait(ctx context.Context, bytes int64) bool {
	w := &ledgerWait{min(bytes, l.limit), make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, w)
	l.serve()
	l.mu.Unlock()
	select {
	case <-w.room:
		return true
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.waiting {
		if other == w {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			l.serve()
			return false
		}
	}
	return true // it came just now
}

// claim counts room that was taken for a client. It returns false when that client has
// too much already, unless the room has to be given.
func (l *ledger) claim(client string, bytes int64, always bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !always && client != "" && l.clients[client] > 0 && l.clients[client]+bytes > l.limit*ClientAnswers/AnswersHeld {
		return false
	}
	l.clients[client] += bytes
	return true
}

// release gives back room that a client had.
func (l *ledger) release(client string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients[client] -= bytes; l.clients[client] <= 0 {
		delete(l.clients, client)
	}
	l.held -= bytes
	l.serve()
}
