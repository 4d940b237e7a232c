package commit

import (
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/operation"
)

// A process that was stopped and goes on must not send what its callers have
// long given up: a balancer may have had it done elsewhere, and newer writes
// come since.
func TestAWriteIsNotSentAfterItsTime(t *testing.T) {
	w := New(config.Config{Hold: time.Minute}.WithDefaults(), nil)
	stale, fresh := new(operation.Operation), new(operation.Operation)
	stale.Until, fresh.Until = time.Now().Add(-time.Second), time.Now().Add(time.Minute)
	w.queue, w.live = []*operation.Operation{stale, fresh}, 2
	if batch := w.take(nil); len(batch) != 1 || batch[0] != fresh {
		t.Errorf("the batch has %d writes, want the fresh one alone", len(batch))
	}
	if stale.State.Load() != operation.Queued || len(w.queue) != 0 {
		t.Errorf("the stale one is in state %d, %d are left in the queue", stale.State.Load(), len(w.queue))
	}
}

func TestTheNextBatchIsThereThoughTheFirstOfItWasGivenUp(t *testing.T) {
	w := New(config.Config{}.WithDefaults(), nil).Aside
	gone, there := new(operation.Operation), new(operation.Operation)
	later := time.Now().Add(time.Minute)
	gone.Until, there.Until = time.Now().Add(-time.Second), later
	for _, o := range []*operation.Operation{gone, there} {
		if err := w.put(o); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.take(nil); len(got) != 1 || got[0] != there {
		t.Errorf("%d operations are taken", len(got))
	}
}
