package logs

import (
	"fmt"
	"sync"
	"time"
)

const (
	// outboxMost is how much of a node's log may wait for the disk. If that is reached, the node
	// waits for up to patience. After that, its lines are dropped and counted until there is room
	// again.
	outboxMost = 1 << 20 // bytes
	patience   = 200 * time.Millisecond
	// bufferKept is the largest buffer that is kept for the next lines.
	bufferKept = 128 << 10 // bytes
)

// outbox holds lines of one node's log that wait for the disk. One goroutine puts lines in, another
// one stores them.
type outbox struct {
	mu       sync.Mutex
	bytes    []byte
	lines    int
	asked    []chan struct{} // closed when everything put so far is stored
	dropped  int             // lines dropped since lines last found room
	dropping bool
	closed   bool

	work chan struct{} // signals that there is something to store
	room chan struct{} // signals that something was taken
}

func newOutbox() *outbox {
	return &outbox{work: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// signal wakes the goroutine that waits for a channel, or the next one that will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put adds whole lines, or drops them if there is no room in time.
func (o *outbox) put(lines []byte, n int) {
	if !o.add(lines, n) {
		o.awaitRoom()
		o.addOrDrop(lines, n)
	}
}

// add adds lines if there is room. It returns false if the caller should wait for room. While lines
// are being dropped, it drops these, too, and returns true.
func (o *outbox) add(lines []byte, n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.bytes)+len(lines) > outboxMost {
		if o.dropping {
			o.dropped += n
		}
		return o.dropping
	}
	if o.dropped > 0 {
		note := fmt.Sprintf("holdfast: %d lines before this one are lost: the disk is slower than the node writes\n", o.dropped)
		o.bytes = append(appendStamp(o.bytes, time.Now()), note...)
	}
	o.bytes = append(o.bytes, lines...)
	o.lines += n
	o.dropped, o.dropping = 0, false
	signal(o.work)
	return true
}

func (o *outbox) awaitRoom() {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-o.room:
		}
		o.mu.Lock()
		free := len(o.bytes) == 0
		o.mu.Unlock()
		if free {
			return
		}
	}
}

func (o *outbox) addOrDrop(lines []byte, n int) {
	if o.add(lines, n) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropped += n
	o.dropping = true
}

// ask makes keep close done when everything put before is stored.
func (o *outbox) ask(done chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, done)
	signal(o.work)
}

// close makes keep return when everything is stored.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	signal(o.work)
}

// keep stores what is put, until the outbox is closed.
func (o *outbox) keep(s *store) {
	defer s.close()
	var buf []byte
	for range o.work {
		o.mu.Lock()
		bytes, lines, asked, closed := o.bytes, o.lines, o.asked, o.closed
		o.bytes, o.lines, o.asked = buf[:0], 0, nil
		o.mu.Unlock()
		signal(o.room)
		if lines > 0 {
			s.write(bytes, lines)
		}
		for _, done := range asked {
			close(done)
		}
		if buf = bytes; cap(buf) > bufferKept {
			buf = nil
		}
		if closed {
			return
		}
	}
}
