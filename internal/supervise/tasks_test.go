package supervise

import (
	"sync/atomic"
	"testing"
)

// With a sync.WaitGroup, the race detector would report this use.
func TestATaskMayBeginWhileOthersAreWaitedFor(t *testing.T) {
	var all tasks
	var done atomic.Int32
	began := make(chan struct{})
	go func() {
		for range 100 {
			all.Go(func() { done.Add(1) })
		}
		close(began)
	}()
	for range 100 {
		all.Wait()
	}
	<-began
	all.Wait()
	if n := done.Load(); n != 100 {
		t.Errorf("%d of 100 were waited for", n)
	}
}
