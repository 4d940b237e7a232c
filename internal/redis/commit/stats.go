package commit

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// BatchBuckets are the upper bounds of Status.Batches: powers of two, the last
// without bound.
var BatchBuckets = [...]int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}

// Stats count what the writer did.
type Stats struct {
	Batches    [len(BatchBuckets)]atomic.Int64
	Operations atomic.Int64
	Unknown    atomic.Int64
}

func (s *Stats) batch(n int) {
	if n == 0 {
		return
	}
	s.Batches[min(bits.Len(uint(n-1)), len(s.Batches)-1)].Add(1)
	s.Operations.Add(int64(n))
}

// Status is what the client knows about Redis at a moment.
type Status struct {
	// Master is host:port; empty: there is no master now, and Why is the reason. For a
	// cluster it is the masters of all shards, with commas, and empty while any shard has
	// none. Replicas and InSync are then the smallest of all shards.
	Master string    `json:"master"`
	Why    string    `json:"why"`
	Since  time.Time `json:"since"`
	// Found is true if there was a master at some time.
	Found bool `json:"-"`
	// Heard is when any node or Sentinel last answered.
	Heard time.Time `json:"heard"`
	// Replicas is how many replicas are online at the master. InSync is how many of them
	// have to have a write before it is acknowledged.
	Replicas int `json:"replicas"`
	InSync   int `json:"inSync"`
	// Held is how many operations wait.
	Held int `json:"held"`
	// Unknown counts the requests whose outcome is unknown.
	Unknown int64 `json:"unknown"`
	// Operations counts the operations in all batches that went to a master,
	// and Batches the batches by their size: see BatchBuckets.
	Operations int64                    `json:"-"`
	Batches    [len(BatchBuckets)]int64 `json:"-"`
}
