//go:build linux && (amd64 || arm64)

package web

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/redis"
	"holdfast/internal/socket"
)

// lane is a loop's own connection to the master, for reads. The loop polls it like its clients'
// connections, so a read takes no goroutine and no lock. Reads go in batches, one at a time. What a
// lane cannot answer is asked again through Client.Start. It belongs to the loop, under its lock.
type lane struct {
	loop    *loop
	express *redis.Express // nil: there is no connection
	fd      int
	out     []byte // of the batch under way, what the kernel has not taken yet
	full    bool   // the kernel takes no more now, and reports when it does
	doomed  bool   // the connection is of no more use; depart ends it

	// waiting has the flights of the next batch, sent those of the batch under way, and arrived
	// those whose responses are being written.
	waiting, sent, arrived []*flight

	connecting bool
	never      bool          // there will never be such a connection: TLS or a cluster
	since      time.Time     // when the connection was made, or last tried
	rest       time.Duration // how long to wait after since before the next attempt

	timer    *time.Timer
	watching bool // the timer runs
	come     int  // bytes of the batch's answers at the last look
	silent   int  // looks since anything came
}

const (
	// laneRest is the time between two attempts to connect. It doubles, up to mostRest, after a
	// connection that was of no use because its answers came too late or were too long: each such
	// attempt costs every request in the batch.
	laneRest, mostRest = 200 * time.Millisecond, 10 * time.Second
	// When nothing has come of a batch for lanePatience looks, laneLook apart, the lane gives the
	// connection up. Asked again in the usual way, its reads are held until there is a master, for
	// instance.
	lanePatience = 4
	laneLook     = 25 * time.Millisecond
)

func newLane(l *loop) *lane { return &lane{loop: l, fd: -1, rest: laneRest} }

// board puts a flight into the next batch. It reports false when the flight cannot go by the lane.
func (n *lane) board(f *flight, spec *redis.Spec) bool {
	switch {
	case !redis.ForExpress(&f.request, spec):
		return false
	case n.express == nil:
		n.connect()
		return false
	case n.express.Add(&f.request, f.memory.now):
		n.waiting = append(n.waiting, f)
		return true
	}
	n.doomed = n.doomed || n.express.Over()
	return false
}

// connect has a goroutine make the connection, when it is time for one.
func (n *lane) connect() {
	l := n.loop
	if n.never || n.connecting || l.draining || l.over || time.Since(n.since) < n.rest {
		return
	}
	n.connecting = true
	l.engine.work.Go(func() {
		express, conn, err := l.engine.responder.express(l.engine.life)
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
		if l.over || l.watch(unix.EPOLL_CTL_ADD, fd, 0) != nil {
			_ = syscall.Close(fd)
			return
		}
		n.express, n.fd, n.full = express, fd, false
	})
}

// departs reports whether a batch can be sent now.
func (n *lane) departs() bool { return n.express != nil && n.express.Waiting() }

// depart sends the next batch unless one is under way. It is called when the loop has nothing else
// to do at the moment, so a batch gathers what came at once.
func (n *lane) depart() {
	if n.doomed {
		n.drop()
	}
	for n.departs() {
		if n.send(); !n.doomed {
			return
		}
		n.drop()
	}
}

// send sends the next batch, and starts to watch for its answers.
func (n *lane) send() {
	n.out = n.express.Depart()
	n.sent, n.waiting = n.waiting, n.sent[:0]
	n.come, n.silent = 0, 0
	n.push()
	switch {
	case n.watching:
		return
	case n.timer == nil:
		n.timer = time.AfterFunc(laneLook, n.look)
	default:
		n.timer.Reset(laneLook)
	}
	n.watching = true
}

// push writes as much of the batch as the kernel takes.
func (n *lane) push() {
	full := false
	for len(n.out) > 0 && !full {
		k, errno := socket.Transmit(n.fd, n.out)
		switch errno {
		case 0:
			n.out = n.out[k:]
		case unix.EINTR:
		case unix.EAGAIN:
			full = true
		default:
			n.doomed = true
			return
		}
	}
	if full == n.full {
		return
	}
	// Only while there is more to write: a unix socket reports each time that its peer has read.
	besides := uint32(0)
	if full {
		besides = unix.EPOLLOUT
	}
	n.full = full
	n.doomed = n.loop.watch(unix.EPOLL_CTL_MOD, n.fd, besides) != nil
}

// receive reads the answers that have come. ended: nothing more will come.
func (n *lane) receive(ended bool) {
	n.push()
	for !n.doomed {
		room := n.express.Room()
		k, errno := socket.Receive(n.fd, room)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0 || k == 0:
			n.doomed = true
			return
		}
		whole, err := n.express.Got(k)
		if err != nil || whole && len(n.out) > 0 { // an answer to what was not sent
			n.doomed = true
			if errors.Is(err, redis.ErrTooLong) {
				n.tire()
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
func (n *lane) land() {
	x := n.express
	n.loop.clock()
	good := x.Land(n.loop.memory.now)
	n.arrived, n.sent = n.sent, n.arrived[:0]
	for i, f := range n.arrived {
		if good && x.Answer(i, &f.request) {
			n.loop.arrive(f)
		} else {
			n.again(f)
		}
	}
	clear(n.arrived)
	x.Done(false)
}

// tire makes the lane wait longer before it connects again, unless this connection has lasted.
func (n *lane) tire() {
	if time.Since(n.since) > mostRest {
		n.rest = laneRest
	}
	n.rest = min(2*n.rest, mostRest)
	n.since = time.Now()
}

// again asks for a flight's command in the usual way.
func (n *lane) again(f *flight) {
	if n.loop.engine.responder.again(f) {
		n.loop.arrive(f)
	}
}

// drop ends the connection, and asks for its commands in the usual way. The next read that could go
// by the lane has it connect again.
func (n *lane) drop() {
	_ = syscall.Close(n.fd)
	left := slices.Concat(n.sent, n.waiting)
	n.express, n.fd, n.out, n.doomed, n.sent, n.waiting = nil, -1, nil, false, nil, nil
	for _, f := range left {
		n.again(f)
	}
}

// look gives up a batch whose master does not answer.
func (n *lane) look() {
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
		n.doomed = true
	case n.silent >= lanePatience:
		n.tire()
		n.doomed = true
	default:
		n.watching = true
		n.timer.Reset(laneLook)
	}
}

// end closes the connection for good.
func (n *lane) end() {
	if n.timer != nil {
		n.timer.Stop()
	}
	if n.express != nil {
		_ = syscall.Close(n.fd)
		n.express, n.fd = nil, -1
	}
}
