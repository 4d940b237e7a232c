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

// lane is a loop's own connection to the master, for what only reads: the loop
// polls it like its clients', and so a read takes no goroutine and no lock. What
// a lane cannot answer is asked again in the usual way. It is the loop's, under
// its lock.
type lane struct {
	loop    *loop
	express *redis.Express // nil: there is no connection
	fd      int
	out     []byte // of the batch that is under way, what the kernel has yet to take
	full    bool   // it tells when it takes more
	doomed  bool   // the connection is of no more use: see depart

	// waiting are the flights of the batch to come, sent those of the one under
	// way, and arrived those of the one whose answers are being written.
	waiting, sent, arrived []*flight

	connecting bool
	never      bool      // this Redis has no such connection
	since      time.Time // there has been one, or an attempt was made
	rest       time.Duration

	timer    *time.Timer
	watching bool // the timer runs
	come     int  // how much of the batch had come at the last look
	silent   int  // looks since anything came
}

const (
	// laneRest lies between two attempts to connect. It doubles for a connection
	// that was of no use, up to mostRest: its batches came too late, or were too
	// long, and each such attempt costs those who are in the batch.
	laneRest, mostRest = 200 * time.Millisecond, 10 * time.Second
	// Nothing may come of a batch for so many looks. Asked again in the usual
	// way, what it reads is held until there is a master, for instance.
	lanePatience = 4
	laneLook     = 25 * time.Millisecond
)

func newLane(l *loop) *lane { return &lane{loop: l, fd: -1, rest: laneRest} }

// board puts a flight into the batch to come. It answers false when that is not
// for it.
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

// connect has a goroutine make the connection.
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

// departs says that there is a batch to be sent.
func (n *lane) departs() bool { return n.express != nil && n.express.Waiting() }

// depart sends the batch to come, if none is under way. It is called when the
// loop has nothing else to do for now, and so gathers what came at once.
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

// send sends the batch to come.
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

// push gives the kernel what it takes. It tells when it takes more.
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
	// Not always: a unix socket tells it whenever its peer has read.
	besides := uint32(0)
	if full {
		besides = unix.EPOLLOUT
	}
	n.full = full
	n.doomed = n.loop.watch(unix.EPOLL_CTL_MOD, n.fd, besides) != nil
}

// receive takes what has come; ended says that nothing more will.
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

// land has the answers of a batch written. The next one departs after them: with
// it may go what those ask next who have their answers first.
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

// tire makes the lane rest longer before there is another connection, unless
// this one has lasted.
func (n *lane) tire() {
	if time.Since(n.since) > mostRest {
		n.rest = laneRest
	}
	n.rest = min(2*n.rest, mostRest)
	n.since = time.Now()
}

// again asks for what a flight wants in the usual way.
func (n *lane) again(f *flight) {
	if n.loop.engine.responder.again(f) {
		n.loop.arrive(f)
	}
}

// drop ends the connection; another one is made when it is wanted.
func (n *lane) drop() {
	_ = syscall.Close(n.fd)
	left := slices.Concat(n.sent, n.waiting)
	n.express, n.fd, n.out, n.doomed, n.sent, n.waiting = nil, -1, nil, false, nil, nil
	for _, f := range left {
		n.again(f)
	}
}

// look sees to it that a batch does not wait for a master that does not answer.
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
