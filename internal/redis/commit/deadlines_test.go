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
		w.Deadlines.Sweep(time.Now().Add(time.Hour))
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
