// Package moment keeps points in time in atomics, which have no room for a time.Time.
package moment

import (
	"sync/atomic"
	"time"
)

// birth is what moments are counted from. It is long ago, so that an atomic without a value
// stands for nothing recent.
var birth = time.Now().Add(-time.Hour)

// Advance moves a moment on to a time, if that is later.
func Advance(moment *atomic.Int64, to time.Time) {
	at := int64(to.Sub(birth))
	for {
		before := moment.Load()
		if at <= before || moment.CompareAndSwap(before, at) {
			return
		}
	}
}

// Since returns how long ago a moment was.
func Since(now time.Time, moment int64) time.Duration { return now.Sub(birth) - time.Duration(moment) }
