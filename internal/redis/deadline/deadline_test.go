package deadline

import (
	"testing"
	"time"

	"holdfast/internal/redis/operation"
)

// An operation is watched until its caller has its outcome, and no longer: its memory is used again.
func TestAnOperationWithItsOutcomeIsNotWatched(t *testing.T) {
	forgotten := 0
	w := New(time.Second, time.Second, func(*operation.Operation) { forgotten++ })
	watched := func() (n int) {
		for _, l := range []line{w.open, w.expired} {
			for o := l.head; o != nil; o = o.Next {
				n++
			}
		}
		return n
	}
	told := 0
	start := func() *operation.Operation {
		o := &operation.Operation{Done: make(chan error, 1), Writes: true}
		o.OnDone = func(*operation.Operation, bool, error) { told++ }
		w.Add(o)
		return o
	}
	answered, waiting, sent := start(), start(), start()
	sent.State.Store(operation.Taken)
	if n := watched(); n != 3 {
		t.Errorf("%d of 3 are watched", n)
	}
	w.Remove(answered)
	w.Sweep(time.Now().Add(time.Hour)) // the one that waits is given up; the other one may be answered yet
	if n := watched(); n != 1 || told != 1 || forgotten != 1 || waiting.State.Load() != operation.Finished {
		t.Errorf("%d are watched, %d were told", n, told)
	}
	w.Sweep(time.Now().Add(2 * time.Hour))
	w.Remove(sent)
	if n := watched(); n != 0 || told != 2 {
		t.Errorf("in the end %d are watched, %d were told", n, told)
	}
}
