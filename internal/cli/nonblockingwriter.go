package cli

import (
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	// maxWaiting is how many bytes may wait for standard output.
	maxWaiting = 1 << 20
	// flushLimit is how long the last lines may take to be written.
	flushLimit = 2 * time.Second
)

// nonBlockingWriter writes lines to a container's log without ever waiting for it. The reader of
// the log may be slow or gone, and a supervisor that waits for it would look after nothing. Lines
// that find no room are dropped and counted. It is safe for concurrent use.
type nonBlockingWriter struct {
	w io.Writer
	// lost returns the line that takes the place of dropped ones.
	lost func(lines int) []byte

	mu      sync.Mutex
	waiting []byte
	dropped int
	ended   bool
	work    chan struct{} // has an item when something waits, or it is the end
	done    chan struct{}
}

// openNonBlockingWriter starts a nonBlockingWriter. Its close method ends it.
func openNonBlockingWriter(w io.Writer, lost func(lines int) []byte) *nonBlockingWriter {
	o := &nonBlockingWriter{w: w, lost: lost, work: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run()
	return o
}

// Write queues a line, or drops it. It never fails.
func (o *nonBlockingWriter) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting)+len(line) > maxWaiting {
		o.dropped++
		return len(line), nil
	}
	o.queueLost()
	o.waiting = append(o.waiting, line...)
	o.wake()
	return len(line), nil
}

// queueLost queues the line about dropped lines. o.mu must be held.
func (o *nonBlockingWriter) queueLost() {
	if o.dropped > 0 {
		o.waiting = append(o.waiting, o.lost(o.dropped)...)
		o.dropped = 0
	}
}

func (o *nonBlockingWriter) wake() {
	select {
	case o.work <- struct{}{}:
	default:
	}
}

// close writes what waits, for a limited time.
func (o *nonBlockingWriter) close() {
	o.mu.Lock()
	o.queueLost()
	o.ended = true
	o.mu.Unlock()
	o.wake()
	select {
	case <-o.done:
	case <-time.After(flushLimit): // the goroutine ends with the process
	}
}

func (o *nonBlockingWriter) run() {
	defer close(o.done)
	for range o.work {
		o.mu.Lock()
		lines, ended := o.waiting, o.ended
		o.waiting = nil
		o.mu.Unlock()
		if len(lines) > 0 {
			_, _ = o.w.Write(lines) // an error cannot be reported anywhere; the lines are in the files, too
		}
		if ended {
			return
		}
	}
}

// catchSIGPIPE keeps this process alive when the reader of its output is gone: a write then
// returns an error. It catches SIGPIPE instead of ignoring it, because the nodes would inherit an
// ignored signal.
func catchSIGPIPE() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
