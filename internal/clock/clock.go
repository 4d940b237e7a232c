// Package clock waits: for a time, for a condition, and longer each time between attempts that fail.
// Everything in it ends when a context does.
package clock

import (
	"context"
	"time"
)

// Sleep waits for a time and returns true. It returns false if the context ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Poll waits until a condition holds, and looks at once and then after every interval. It returns
// false if the context ends first.
func Poll(ctx context.Context, every time.Duration, holds func() bool) bool {
	for !holds() {
		if !Sleep(ctx, every) {
			return false
		}
	}
	return true
}

// Within is Poll with a limit instead of a context. It looks once more when the time is over.
func Within(limit, every time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); !holds(); time.Sleep(every) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Backoff gives the pauses between attempts: each is twice as long as the one before. The zero value
// never pauses. It is for one goroutine.
type Backoff struct {
	Min, Max time.Duration
	AtOnce   bool // the first attempt after a failure follows without a pause

	next    time.Duration
	skipped bool // that attempt was made
}

// Next returns the pause before the next attempt.
func (b *Backoff) Next() time.Duration {
	if b.AtOnce && !b.skipped {
		b.skipped = true
		return 0
	}
	pause := max(b.next, b.Min)
	b.next = min(2*pause, b.Max)
	return pause
}

// Reset begins anew, as after a success.
func (b *Backoff) Reset() { b.next, b.skipped = 0, false }
