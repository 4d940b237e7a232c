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
	// outletMost is how much may wait for standard output, in bytes.
	outletMost = 1 << 20
	// outletEnd is how long the last lines may take.
	outletEnd = 2 * time.Second
)

// outlet writes lines to a container's log without ever waiting for it: who reads the log
// may stand still, or be gone, and a supervisor that waits looks after nothing. What finds
// no room is left out, and counted. It is safe for concurrent use.
type outlet struct {
	w io.Writer
	// lost is the line that says how many are missing at its place.
	lost func(lines int) []byte

	mu      sync.Mutex
	waiting []byte
	missing int
	ended   bool
	work    chan struct{} // something waits, or it is the end
	done    chan struct{}
}

// openOutlet begins to write. It is ended by end.
func openOutlet(w io.Writer, lost func(lines int) []byte) *outlet {
	o := &outlet{w: w, lost: lost, work: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run()
	return o
}

// Write takes a line, or leaves it out. It never fails.
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

// note says how many lines are missing before the next one.
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

// end writes what waits, for a short time.
func (o *outlet) end() {
	o.mu.Lock()
	o.note()
	o.ended = true
	o.mu.Unlock()
	o.wake()
	select {
	case <-o.done:
	case <-time.After(outletEnd): // its goroutine ends with the process
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
			_, _ = o.w.Write(lines) // nobody is there to be told; the lines are in the files, too
		}
		if ended {
			return
		}
	}
}

// outliveReaders keeps this process from dying when nobody reads its output any more: a
// write fails then. The nodes do not inherit that, as they would a signal that is ignored.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
