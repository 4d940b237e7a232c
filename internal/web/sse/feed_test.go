package sse

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// One message may go to thousands of streams. What waits on all of them together is bounded, and a
// stream with little to send does not suffer from it.
func TestWhatWaitsOnAllStreamsIsBounded(t *testing.T) {
	var unsent atomic.Int64
	open := func() *Feed {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close(); there.Close() })
		return &Feed{conn: here, wake: make(chan struct{}, 1), unsent: &unsent}
	}
	message := strings.Repeat("x", 10<<20)
	little := open()
	dropped := 0
	for range 100 {
		f := open()
		f.Event("", "", message)
		if f.dropped {
			dropped++
		}
	}
	if waits := unsent.Load(); waits > allFeeds || dropped < 80 || dropped > 90 {
		t.Errorf("%d bytes wait, %d of 100 streams were dropped", waits, dropped)
	}
	little.Event("", "", "hello")
	if all, ok := little.take(nil); !ok || string(all) != "data: hello\n\n" {
		t.Errorf("%q, %v", all, ok)
	}
}
