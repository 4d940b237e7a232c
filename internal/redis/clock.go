package redis

import (
	"sync/atomic"
	"time"
)

// birth is a moment to count from: an atomic has no room for a time. It is long ago, so
// that an atomic without a value stands for nothing recent.
var birth = time.Now().Add(-time.Hour)

// advance moves a moment, in nanoseconds since birth, on to that one, if it is later.
func advance(moment *atomic.Int64, to time.Time) {
	at := int64(to.Sub(birth))
	for {
		before := moment.Load()
		if at <= before || moment.CompareAndSwap(before, at) {
			return
		}
	}
}
