package fair

import (
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// Bodies bounds the memory for large bodies that are still arriving. The HTTP server allocates the
// whole of a body when its header announces it, though its client may never send it.
type Bodies struct {
	shares *shares // of bytes
	most   int     // bytes of one body

	mu     sync.Mutex
	claims map[*fasthttp.RequestHeader]claim // by request
}

// claim is the room that one request's body takes.
type claim struct {
	sender string
	bytes  int // 0: there was no room
	// until is when the claim ends, whatever became of its request. The HTTP server does not report
	// every request that ends before it was read.
	until time.Time
}

const (
	largeBody = 64 << 10  // bytes from which a body counts
	allBodies = 128 << 20 // bytes of large bodies at once; at least four of the largest
	claimTime = time.Minute
)

// NewBodies returns the room for large bodies of at most so many bytes each.
func NewBodies(most int) *Bodies {
	return &Bodies{shares: newShares(max(allBodies, 4*most), 0, 3), most: most, claims: map[*fasthttp.RequestHeader]claim{}}
}

// InUse returns how many bytes are taken.
func (b *Bodies) InUse() int { return b.shares.inUse() }

// Claimed returns how many bytes a request's body counts for; 0 for a body that is not large, or
// that is refused anyway.
func (b *Bodies) Claimed(h *fasthttp.RequestHeader) int {
	n := h.ContentLength()
	if n == -1 { // chunks, whose sum is not known
		n = b.most
	}
	if n <= largeBody || n > b.most {
		return 0
	}
	return n
}

// Take makes room for a body of a sender, which comes within that time. It reports false when there
// is no room.
func (b *Bodies) Take(h *fasthttp.RequestHeader, sender string, n int, within time.Duration) bool {
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

// drop ends a claim. The caller holds b.mu.
func (b *Bodies) drop(h *fasthttp.RequestHeader) {
	if c := b.claims[h]; c.bytes > 0 {
		b.shares.leave(c.sender, c.bytes)
	}
	delete(b.claims, h)
}

// Release gives a request's room back. It reports false when the request had got none.
func (b *Bodies) Release(h *fasthttp.RequestHeader) (had bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.claims[h]
	b.drop(h)
	return !known || c.bytes > 0
}
