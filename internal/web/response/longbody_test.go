package response

import (
	"context"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// While a long response is made, other goroutines run after each piece of it, or nearly each, even
// with a single thread.
func TestALongAnswerGivesWayToOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const many = 100
	text := strings.Repeat("\x00", many*pieceSize)
	for name, work := range map[string]func(){
		"its length": func() { stringLength(text, false) },
		"writing it": func() {
			p := &pieces{w: io.Discard}
			p.string(text, false)
		},
	} {
		var turns atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		var other sync.WaitGroup
		other.Go(func() {
			for ctx.Err() == nil {
				turns.Add(1)
				runtime.Gosched()
			}
		})
		for turns.Load() == 0 {
			runtime.Gosched()
		}
		before := turns.Load()
		work()
		after := turns.Load()
		stop()
		other.Wait()
		if after-before < many/2 {
			t.Errorf("%s: another goroutine had %d turns meanwhile, and %d pieces were made", name, after-before, many)
		}
	}
}
