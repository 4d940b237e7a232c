package commit

import (
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/operation"
)

// An operation that is watched may be given up before it is in the queue.
func TestWhatIsGivenUpBeforeItIsQueuedIsNotCounted(t *testing.T) {
	for _, ended := range []bool{false, true} {
		w := New(config.Config{}.WithDefaults(), nil)
		w.ended = ended
		told := 0
		o := &operation.Operation{Done: make(chan error, 1), Size: 10}
		o.OnDone = func(*operation.Operation, bool, error) { told++ }
		w.Deadlines.Add(o)
		w.Deadlines.sweep(time.Now().Add(time.Hour))
		if err := w.PutWatched(o); err != nil {
			t.Errorf("%v, and it has had its outcome", err)
		}
		if batch := w.take(nil); len(batch) > 0 {
			t.Error("what was given up is taken")
		}
		if told != 1 || w.live != 0 || w.bytes != 0 {
			t.Errorf("told %d times; %d live of %d bytes, want none", told, w.live, w.bytes)
		}
	}
}

// An operation is watched until its caller has its outcome, and no longer: its memory is used again.
func TestAnOperationWithItsOutcomeIsNotWatched(t *testing.T) {
	w := New(config.Config{}.WithDefaults(), nil)
	watched := func() (n int) {
		for _, l := range []line{w.Deadlines.open, w.Deadlines.expired} {
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
		w.Deadlines.Add(o)
		return o
	}
	answered, waiting, sent := start(), start(), start()
	sent.State.Store(operation.Taken)
	if n := watched(); n != 3 {
		t.Errorf("%d of 3 are watched", n)
	}
	w.Deadlines.Remove(answered)
	w.Deadlines.sweep(time.Now().Add(time.Hour)) // the one that waits is given up; the other one may be answered yet
	if n := watched(); n != 1 || told != 1 || waiting.State.Load() != operation.Finished {
		t.Errorf("%d are watched, %d were told", n, told)
	}
	w.Deadlines.sweep(time.Now().Add(2 * time.Hour))
	w.Deadlines.Remove(sent)
	if n := watched(); n != 0 || told != 2 {
		t.Errorf("in the end %d are watched, %d were told", n, told)
	}
}
