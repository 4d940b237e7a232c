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
	// outletMost is how many bytes may wait for standard output.
	outletMost = 1 << 20
	// outletEnd is how long the last lines may take to be written.
	outletEnd = 2 * time.Second
)

// outlet writes lines to a container's log without ever waiting for it. The reader of the log may
// be slow or gone, and a supervisor that waits for it would look after nothing. Lines that find no
// room are dropped and counted. It is safe for concurrent use.
type outlet struct {
	w io.Writer
	// lost returns the line that takes the place of dropped ones.
	lost func(lines int) []byte

	mu      sync.Mutex
	waiting []byte
	missing int
	ended   bool
	work    chan struct{} // has an item when something waits, or it is the end
	done    chan struct{}
}

// openOutlet starts an outlet. Its end method ends it.
func openOutlet(w io.Writer, lost func(lines int) []byte) *outlet {
	o := &outlet{w: w, lost: lost, work: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run()
	return o
}

// Write queues a line, or drops it. It never fails.
func (o *outlet) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting)+len(line) > outletMost {
		o.missing++
		return len(line), nil
	}
	o.note()
	o.waiting = append(o.waiting, line...)
	o.wake()
	return len(line), nil
}

// note queues the line about dropped lines. o.mu must be held.
func (o *outlet) note() {
	if o.missing > 0 {
		o.waiting = append(o.waiting, o.lost(o.missing)...)
		o.missing = 0
	}
}

func (o *outlet) wake() {
	select {
	case o.work <- struct{}{}:
	default:
	}
}

// end writes what waits, for a limited time.
func (o *outlet) end() {
	o.mu.Lock()
	o.note()
	o.ended = true
	o.mu.Unlock()
	o.wake()
	select {
	case <-o.done:
	case <-time.After(outletEnd): // the goroutine ends with the process
	}
}

func (o *outlet) run() {
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

// outliveReaders keeps this process alive when the reader of its output is gone: a write then
// returns an error. It catches SIGPIPE instead of ignoring it, because the nodes would inherit an
// ignored signal.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
