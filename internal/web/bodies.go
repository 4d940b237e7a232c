package web

import (
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// bodies bounds the memory of large bodies that are on their way: the server
// provides for the whole of a body when its header announces it, though its
// client may never send it.
type bodies struct {
	shares *shares // of bytes

	mu     sync.Mutex
	claims map[*fasthttp.RequestHeader]claim // by their requests
}

type claim struct {
	sender string
	bytes  int // 0: there was no room
	// until is when it counts no more, whatever became of its request: the
	// server does not tell of each that ends before it was read.
	until time.Time
}

const (
	largeBody = 64 << 10  // bytes from which a body counts
	allBodies = 128 << 20 // bytes of large bodies at once, or four of the largest
	claimTime = time.Minute
)

// claimed is what a request's body counts for; 0: nothing.
func (s *Server) claimed(h *fasthttp.RequestHeader) int {
	n := h.ContentLength()
	if n == -1 { // chunks; their sum is not known
		n = s.cfg.MaxBody
	}
	if n <= largeBody || n > s.cfg.MaxBody {
		return 0
	}
	return n
}

// take makes room for a body of a sender. It returns false when there is none.
func (b *bodies) take(h *fasthttp.RequestHeader, sender string, n int, within time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(h) // of an earlier request in the same memory
	now := time.Now()
	c := claim{sender: sender, bytes: n, until: now.Add(within + claimTime)}
	if !b.shares.take(sender, n) {
		for other, c := range b.claims {
			if now.After(c.until) {
				b.drop(other)
			}
		}
		if !b.shares.take(sender, n) {
			c.bytes = 0
		}
	}
	b.claims[h] = c
	return c.bytes > 0
}

func (b *bodies) drop(h *fasthttp.RequestHeader) {
	if c := b.claims[h]; c.bytes > 0 {
		b.shares.leave(c.sender, c.bytes)
	}
	delete(b.claims, h)
}

// release gives the room of a request back. It answers false when there was
// none for it.
func (b *bodies) release(h *fasthttp.RequestHeader) (had bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.claims[h]
	b.drop(h)
	return !known || c.bytes > 0
}
