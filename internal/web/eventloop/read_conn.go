//go:build linux && (amd64 || arm64)

package eventloop

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/redis"
	"holdfast/internal/socket"
)

// readConn is a loop's own connection to the master, for reads. The loop polls it like its clients'
// connections, so a read takes no goroutine and no lock. Reads go in batches, one at a time. What a
// read connection cannot answer is asked again through Client.Start. It belongs to the loop, under
// its lock.
type readConn struct {
	loop    *loop
	express *redis.Express // nil: there is no connection
	fd      int
	out     []byte // of the batch under way, what the kernel has not taken yet
	broken  bool   // the connection is of no more use; flush ends it

	// waiting has the pending requests of the next batch, sent those of the batch under way, and
	// arrived those whose responses are being written.
	waiting, sent, arrived []*Pending

	connecting bool
	never      bool          // there will never be such a connection: see redis.Client.Express
	since      time.Time     // when the connection was made, or last tried
	backoff    time.Duration // how long to wait after since before the next attempt

	timer    *time.Timer
	watching bool // the timer runs
	come     int  // bytes of the batch's answers at the last look
	silent   int  // looks since anything came
}

const (
	// leastBackoff is the time between two attempts to connect. It doubles, up to mostBackoff, after a
	// connection that was of no use because its answers came too late or were too long: each such
	// attempt costs every request in the batch.
	leastBackoff, mostBackoff = 200 * time.Millisecond, 10 * time.Second
	// When nothing has come of a batch for readPatience looks, readLook apart, the connection
	// is given up. Asked again in the usual way, its reads are held until there is a
	// master, for instance.
	readPatience = 4
	readLook     = 25 * time.Millisecond
)

func newReadConn(l *loop) *readConn { return &readConn{loop: l, fd: -1, backoff: leastBackoff} }

// enqueue puts a pending request into the next batch. It reports false when the request cannot go
// by the read connection.
func (n *readConn) enqueue(f *Pending, spec *redis.Spec) bool {
	switch {
	case !redis.ForExpress(&f.Request, spec):
		return false
	case n.express == nil:
		n.connect()
		return false
	case n.express.Add(&f.Request, f.Memory.Now):
		n.waiting = append(n.waiting, f)
		return true
	}
	n.broken = n.broken || n.express.Over()
	return false
}

// connect has a goroutine make the connection, when it is time for one.
func (n *readConn) connect() {
	l := n.loop
	if n.never || n.connecting || l.draining || l.over || time.Since(n.since) < n.backoff {
		return
	}
	n.connecting = true
	l.manager.work.Go(func() {
		express, conn, err := l.manager.handler.Express(l.manager.life)
		fd, ok := -1, false
		if err == nil {
			if fd, ok = detach(conn); !ok {
				_ = conn.Close()
			}
		}
		l.lock()
		defer l.unlock()
		n.connecting, n.since = false, time.Now()
		n.never = errors.Is(err, errors.ErrUnsupported)
		if !ok {
			return
		}
		// The kernel reports that it takes more only after it took less than all (epoll(7)).
		if l.over || l.watch(fd, unix.EPOLLOUT) != nil {
			_ = syscall.Close(fd)
			return
		}
		n.express, n.fd = express, fd
	})
}

// canFlush reports whether a batch can be sent now.
func (n *readConn) canFlush() bool { return n.express != nil && n.express.Waiting() }

// flush sends the next batch unless one is under way. It is called when the loop has nothing else
// to do at the moment, so a batch gathers what came at once.
func (n *readConn) flush() {
	if n.broken {
		n.drop()
	}
	for n.canFlush() {
		if n.send(); !n.broken {
			return
		}
		n.drop()
	}
}

// send sends the next batch, and starts to watch for its answers.
func (n *readConn) send() {
	n.out = n.express.Depart()
	n.sent, n.waiting = n.waiting, n.sent[:0]
	n.come, n.silent = 0, 0
	n.push()
	switch {
	case n.watching:
		return
	case n.timer == nil:
		n.timer = time.AfterFunc(readLook, n.look)
	default:
		n.timer.Reset(readLook)
	}
	n.watching = true
}

// push writes as much of the batch as the kernel takes now.
func (n *readConn) push() {
	for len(n.out) > 0 {
		k, errno := socket.Transmit(n.fd, n.out)
		switch errno {
		case 0:
			n.out = n.out[k:]
		case unix.EINTR:
		case unix.EAGAIN:
			return // the kernel reports when it takes more
		default:
			n.broken = true
			return
		}
	}
}

// receive reads the answers that have come. ended: nothing more will come.
func (n *readConn) receive(ended bool) {
	n.push()
	for !n.broken {
		room := n.express.Room()
		k, errno := socket.Receive(n.fd, room)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0 || k == 0:
			n.broken = true
			return
		}
		whole, err := n.express.Got(k)
		if err != nil || whole && len(n.out) > 0 { // an answer to what was not sent
			n.broken = true
			if errors.Is(err, redis.ErrTooLong) {
				n.backOff()
			}
			return
		}
		if whole {
			n.land()
		}
		if k < len(room) && !ended {
			return // the kernel tells of more: see loop.serve
		}
	}
}

// land has the responses of a batch written. The loop sends the next batch only afterwards, so that
// the next requests of clients that have just got their responses can join it.
func (n *readConn) land() {
	x := n.express
	n.loop.clock()
	good := x.Land(n.loop.memory.Now)
	n.arrived, n.sent = n.sent, n.arrived[:0]
	for i, f := range n.arrived {
		if good && x.Answer(i, &f.Request) {
			n.loop.writeResponse(f)
		} else {
			n.askAgain(f)
		}
	}
	clear(n.arrived)
	x.Done(false)
}

// backOff makes the read connection wait longer before it connects again, unless this connection
// has lasted.
func (n *readConn) backOff() {
	if time.Since(n.since) > mostBackoff {
		n.backoff = leastBackoff
	}
	n.backoff = min(2*n.backoff, mostBackoff)
	n.since = time.Now()
}

// askAgain asks for a pending request's command in the usual way.
func (n *readConn) askAgain(f *Pending) {
	if n.loop.manager.handler.Again(f) {
		n.loop.writeResponse(f)
	}
}

// drop ends the connection, and asks for its commands in the usual way. The next read that could go
// by the read connection has it connect again.
func (n *readConn) drop() {
	_ = syscall.Close(n.fd)
	left := slices.Concat(n.sent, n.waiting)
	n.express, n.fd, n.out, n.broken, n.sent, n.waiting = nil, -1, nil, false, nil, nil
	for _, f := range left {
		n.askAgain(f)
	}
}

// look gives up a batch whose master does not answer.
func (n *readConn) look() {
	n.loop.lock()
	defer n.loop.unlock()
	n.watching = false
	if n.loop.over || n.express == nil {
		return
	}
	come, under := n.express.Come()
	if !under {
		return
	}
	n.silent++
	if come > n.come {
		n.come, n.silent = come, 0
	}
	switch {
	case n.express.Over():
		n.broken = true
	case n.silent >= readPatience:
		n.backOff()
		n.broken = true
	default:
		n.watching = true
		n.timer.Reset(readLook)
	}
}

// end closes the connection for good.
func (n *readConn) end() {
	if n.timer != nil {
		n.timer.Stop()
	}
	if n.express != nil {
		_ = syscall.Close(n.fd)
		n.express, n.fd = nil, -1
	}
}
