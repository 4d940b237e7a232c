package meter

import (
	"context"
	"sync"
)

// Ledger counts the bytes of long answers that this process holds. An answer counts from
// when its length is known until the client has it. Short ones do not count, and so are
// never refused. It is safe for concurrent use.
type Ledger struct {
	limit, perClient int64

	mu      sync.Mutex
	held    int64
	clients map[string]int64 // of held, by the client's name
	waiting []*ledgerWait    // the first to come first
}

// ledgerWait is an answer that waits for room.
type ledgerWait struct {
	bytes int64
	room  chan struct{} // closed when there is room, which is taken then
}

// ShortAnswer is how many bytes an answer may have without counting.
const ShortAnswer = 16 << 10

// NewLedger returns a ledger with so much room, and so much of it for one client.
func NewLedger(limit, perClient int64) *Ledger {
	return &Ledger{limit: limit, perClient: perClient, clients: map[string]int64{}}
}

// Take takes room, and reports whether there was enough. Those who wait come first.
func (l *Ledger) Take(bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 || l.held+bytes > l.limit {
		return false
	}
	l.held += bytes
	return true
}

// Force takes room for the answer to a write, which cannot be asked for again. For
// such answers there is as much room again as for all others. It reports whether there
// was enough.
func (l *Ledger) Force(bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held+bytes > 2*l.limit {
		return false
	}
	l.held += bytes
	return true
}

// Give gives room back that was taken.
func (l *Ledger) Give(bytes int64) {
	if bytes == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held -= bytes
	l.serve()
}

// serve gives room to those who wait. The caller holds the mutex.
func (l *Ledger) serve() {
	for len(l.waiting) > 0 && l.held+l.waiting[0].bytes <= l.limit {
		l.held += l.waiting[0].bytes
		close(l.waiting[0].room)
		l.waiting = l.waiting[1:]
	}
}

// Most returns bytes, or all the room there is if that is less.
func (l *Ledger) Most(bytes int64) int64 { return min(bytes, l.limit) }

// Wait waits for room and takes it. It returns false when the context ends first.
func (l *Ledger) Wait(ctx context.Context, bytes int64) bool {
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

// Claim counts room that was taken for a client. It returns false when that client has
// too much already, unless the room has to be given.
func (l *Ledger) Claim(client string, bytes int64, always bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !always && client != "" && l.clients[client] > 0 && l.clients[client]+bytes > l.perClient {
		return false
	}
	l.clients[client] += bytes
	return true
}

// Release gives back room that a client had.
func (l *Ledger) Release(client string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients[client] -= bytes; l.clients[client] <= 0 {
		delete(l.clients, client)
	}
	l.held -= bytes
	l.serve()
}
