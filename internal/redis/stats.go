package redis

import (
	"math/bits"
	"sync/atomic"
)

// BatchBuckets are the upper bounds of Status.Batches: powers of two, the last
// without bound.
var BatchBuckets = [...]int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}

// stats count what the writer did.
type stats struct {
	batches    [len(BatchBuckets)]atomic.Int64
	operations atomic.Int64
	unknown    atomic.Int64
}

func (s *stats) batch(n int) {
	if n == 0 {
		return
	}
	s.batches[min(bits.Len(uint(n-1)), len(s.batches)-1)].Add(1)
	s.operations.Add(int64(n))
}
