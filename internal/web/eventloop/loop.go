//go:build linux && (amd64 || arm64)

package eventloop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/redis"
	"holdfast/internal/socket"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
)

// loop is an event loop: it serves simple requests on many connections. It reads from those that
// have something, hands each request to the manager's handler, and writes the response
// when there is one, without a goroutine, a timer or a buffer for each connection. Only its own
// epoll instance knows the connections; the Go runtime knows the instance, so waiting for it takes
// no thread.
type loop struct {
	manager *Manager
	poll    *os.File // the epoll instance
	fd      int      // its file descriptor
	raw     syscall.RawConn

	// mu is held by the goroutine that works for the loop at the moment. It waits for nothing
	// meanwhile, except for the kernel to copy bytes.
	mu       sync.Mutex
	conns    []*loopConn // by file descriptor; nil: there is none
	draining bool
	first    int64      // when draining: for how long a new connection may send its first request, in seconds
	spare    []*Pending // to be used again
	in       []byte     // what was read last
	out      []byte     // what is written next
	memory   Memory
	request  httpfast.Request
	reads    *readConn

	// landed holds the pending requests whose outcome is there. landing wakes answer, which writes
	// them.
	landedMu sync.Mutex
	landed   []*Pending
	landing  chan struct{}
	over     bool // the loop has ended: outcomes are dropped
}

// readSize is how many bytes one read takes in. A longer request is left to the HTTP server.
const readSize = 32 << 10

// hangUp are the events that mean that nothing more comes.
const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// loopConn is a connection of a loop, under the loop's lock.
type loopConn struct {
	loop  *loop
	fd    int
	busy  bool  // a pending request is under way: nothing is read
	ready bool  // there may be something to read
	ended bool  // the client sends no more; what it sent last is still to be read
	fresh bool  // nothing has come yet
	since int64 // Manager.now when the last answer was written, or when the connection came
	run   int32 // requests that were served here since the connection came
	stay  int32 // requests that the HTTP server served before, at least
}

// away returns for how many requests a connection stays with the HTTP server. To go there and back
// costs about as much as the loop saves on six requests. So a connection that comes and goes stays
// away for longer each time. One that was on the loop for a while comes back soon, because most of
// what it sends is for the loop.
func (c *loopConn) away() int32 {
	const least, most, while = 4, 64, 16
	if c.run >= while {
		return least
	}
	return min(max(2*c.stay, least), most)
}

// place is where a pending request came from.
type place struct {
	loop *loop
	conn *loopConn
}

// land hands a pending request over to answer, because its outcome is there. It does not block.
func (f *Pending) land() {
	l := f.loop
	l.landedMu.Lock()
	defer l.landedMu.Unlock()
	if l.over {
		return
	}

	l.landed = append(l.landed, f)
	select {
	case l.landing <- struct{}{}:
	default:
	}
}

func newLoop(e *Manager) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for the runtime
		unix.Close(fd)
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	l := &loop{manager: e, fd: fd, poll: os.NewFile(uintptr(fd), "epoll"), landing: make(chan struct{}, 1), in: make([]byte, readSize)}
	if l.raw, err = l.poll.SyscallConn(); err != nil {
		l.poll.Close()
		return nil, fmt.Errorf("poll an epoll instance: %w", err)
	}
	l.reads = newReadConn(l)
	return l, nil
}

// lock takes the loop for a goroutine that has something to do for it now.
func (l *loop) lock() {
	l.mu.Lock()
	l.clock()
	l.memory.Turn = l.memory.Now
}

// clock reads the clock, and reports the cache hits since the last reading. It has to be called
// after the kernel has told of the requests that are served next: a cached value has to be good at
// a time when it was asked for already, and this process may have been stopped since the last
// reading.
func (l *loop) clock() {
	m := &l.memory
	m.Now = time.Now()
	if m.Hits > 0 {
		l.manager.handler.Answered(m.Hits, m.Now.Sub(m.Turn))
		m.Hits = 0
	}
}

// unlock sends the reads that were gathered for the read connection, and gives the loop back.
func (l *loop) unlock() {
	l.reads.flush()
	if l.memory.Hits > 0 {
		l.clock()
	}
	l.mu.Unlock()
}

// run waits for connections that can be read, until the loop is closed.
func (l *loop) run() {
	events := make([]unix.EpollEvent, 256)
	n := 0
	var failed syscall.Errno
	look := func(fd uintptr) bool {
		n, failed = epollWait(fd, events)
		return n > 0 || failed != 0
	}

	for {
		err := l.raw.Read(look)
		if failed != 0 {
			err = failed
		}
		l.lock()
		if err != nil || l.over {
			over := l.over
			l.mu.Unlock()
			if !over {
				l.manager.fail(fmt.Errorf("wait for connections: %w", err))
			}
			return
		}

		l.take(events[:n])
		for more := 0; more < gatherings && l.reads.canFlush(); more++ {
			if n, failed = epollWait(uintptr(l.fd), events); n <= 0 {
				break // an error comes again
			}
			l.clock()
			l.take(events[:n])
		}
		l.unlock()
	}
}

// gatherings is how often a loop looks for further requests before a batch departs: a larger batch
// costs hardly more.
const gatherings = 3

// take handles the events that the kernel reported.
func (l *loop) take(events []unix.EpollEvent) {
	const while = 16 // events; reading the clock costs as much as finding a cached value
	for i := range events {
		if i%while == while-1 {
			l.clock()
		}
		if int(events[i].Fd) == l.reads.fd {
			l.reads.receive(events[i].Events&hangUp != 0)
			continue
		}
		c := l.at(int(events[i].Fd))
		if c == nil {
			continue
		}
		c.ready = true
		c.ended = c.ended || events[i].Events&hangUp != 0
		if !c.busy {
			l.serve(c)
		}
	}
}

// answer writes the responses of pending requests that have landed, until the loop is closed.
func (l *loop) answer() {
	var flights []*Pending
	for range l.landing {
		l.landedMu.Lock()
		flights, l.landed = l.landed, flights[:0]
		l.landedMu.Unlock()

		l.lock()
		if l.over {
			flights = nil
		}
		for _, f := range flights {
			l.writeResponse(f)
		}
		l.unlock()
		clear(flights)
	}
}

// writeResponse writes the response of a pending request that has landed, and serves what its
// connection has sent since.
func (l *loop) writeResponse(f *Pending) {
	if l.manager.handler.Long(f) {
		l.finishAside(f)
		return
	}
	c := f.conn
	f.Closing = l.draining
	l.out = l.manager.handler.Finish(f, l.out[:0])
	l.release(f)
	c.busy = false
	if l.write(c) && c.ready {
		l.serve(c)
	}
}

// at returns the connection of a file descriptor, or nil.
func (l *loop) at(fd int) *loopConn {
	if fd < len(l.conns) {
		return l.conns[fd]
	}
	return nil
}

// errOver: the loop has ended and takes no connection.
var errOver = errors.New("the loop has ended")

// add takes a connection in. early is what was already read from it. The error is errOver, or that
// the kernel polls no more connections; add has then read nothing.
func (l *loop) add(c *loopConn, early []byte) error {
	l.lock()
	defer l.unlock()
	if l.over {
		return errOver
	}
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*loopConn, c.fd+64-len(l.conns))...)
	}

	c.loop, c.since = l, l.manager.now()
	l.conns[c.fd] = c
	l.manager.open.Add(1)
	if err := l.watch(c.fd, 0); err != nil {
		l.forget(c)
		return fmt.Errorf("poll a connection: %w", err)
	}
	if early != nil {
		l.dispatch(c, early) // the kernel reports what came after it
	} else if l.draining {
		c.ready = true
		l.serve(c) // what came already; otherwise it closes
	}
	return nil
}

// watch has the kernel report when a new socket can be read or ends, and the events besides as well.
func (l *loop) watch(fd int, besides uint32) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1) | besides, Fd: int32(fd)}
	return unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event)
}

// serve reads requests of a connection and has them answered, until there is none or one is under
// way.
func (l *loop) serve(c *loopConn) {
	for c.ready && !c.busy {
		n, errno := socket.Receive(c.fd, l.in)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			c.ready = false
			if l.draining && !c.fresh {
				l.close(c)
			}
			return
		case errno != 0 || n == 0:
			l.close(c)
			return
		}
		// The kernel reports anew what comes after a read that did not fill the buffer (epoll(7),
		// question 9).
		c.ready = n == len(l.in) || c.ended
		if !l.dispatch(c, l.in[:n]) {
			return
		}
	}
}

// dispatch has one request answered: here when it is simple, else by the HTTP server. It reports
// false when the connection is no longer this loop's.
func (l *loop) dispatch(c *loopConn, b []byte) bool {
	c.fresh = false
	if l.request.Parse(b) {
		f := l.acquire(c)
		f.Closing = l.draining
		out, progress := l.manager.handler.Respond(f, &l.request, l.out[:0])
		l.out = out
		switch progress {
		case Underway:
			c.busy = true
			return true
		case Landed:
			l.finishAside(f)
			return false
		case Answered:
			l.release(f)
			return l.write(c)
		}
		l.release(f)
	}
	l.handOff(c, b)
	return false
}

// write sends the response that is in out. It reports false when the connection is no longer this
// loop's: because it broke, because it closes after its last response, or because its client does
// not read, so that a goroutine has to wait for it.
func (l *loop) write(c *loopConn) bool {
	out := l.out
	for {
		n, errno := socket.Transmit(c.fd, out)
		switch {
		case errno == 0 && n == len(out):
			if cap(l.out) > KeepOut {
				l.out = nil
			}
			c.since = l.manager.second.Load()
			c.run++
			if l.draining {
				l.close(c)
				return false
			}
			return true
		case errno == 0:
			out = out[n:]
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			l.writeAside(c, out)
			return false
		default:
			l.close(c)
			return false
		}
	}
}

// handOff gives a connection to the HTTP server, with what was read from it.
func (l *loop) handOff(c *loopConn, b []byte) {
	l.manager.open.Add(1)
	defer l.manager.open.Add(-1)
	l.remove(c)
	l.manager.handOff(newConn(attach(c.fd), slices.Clone(b), l.manager, c.away()))
}

// remove takes a connection out; its file descriptor stays open.
func (l *loop) remove(c *loopConn) {
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, c.fd, nil)
	l.forget(c)
}

func (l *loop) close(c *loopConn) {
	l.forget(c)
	unix.Close(c.fd)
}

func (l *loop) forget(c *loopConn) {
	l.conns[c.fd] = nil
	l.manager.open.Add(-1)
}

// acquire returns a pending request for a request of a connection, a spare one if there is any.
func (l *loop) acquire(c *loopConn) *Pending {
	n := len(l.spare)
	if n == 0 {
		f := NewPending(&l.memory, (*Pending).land)
		f.loop, f.conn = l, c
		f.Board = func(spec *redis.Spec) bool { return l.reads.enqueue(f, spec) }
		return f
	}
	f := l.spare[n-1]
	l.spare = l.spare[:n-1]
	f.conn = c
	return f
}

// release keeps a pending request for another request. So there are as many as were ever under way
// at once.
func (l *loop) release(f *Pending) {
	f.conn = nil
	l.spare = append(l.spare, f)
}

// sweep closes connections that have idled too long. Before it closes one, it reads from it once
// more: a request may have come while this process was stopped.
func (l *loop) sweep(now int64) {
	l.lock()
	defer l.unlock()
	idles := func(c *loopConn) bool {
		limit := int64(idleTimeout / time.Second)
		switch {
		case c == nil || c.busy:
			return false
		case c.fresh && l.draining:
			limit = l.first
		case c.fresh:
			limit = int64(httpfast.ReadTimeout / time.Second)
		}
		return now-c.since > limit
	}
	for fd, c := range l.conns {
		if !idles(c) {
			continue
		}
		c.ready = true
		l.clock()
		if l.serve(c); l.conns[fd] == c && idles(c) {
			l.close(c)
		}
	}
}

// waiting returns the connections that wait for their clients.
func (l *loop) waiting() []waiting {
	l.lock()
	defer l.unlock()
	var all []waiting
	for fd, c := range l.conns {
		if c == nil || c.busy {
			continue
		}
		w := waiting{part: c.fresh, since: time.Duration(c.since) * time.Second, close: func() { l.yield(fd, c) }}
		w.source = sourceOf(fd)
		all = append(all, w)
	}
	return all
}

// yield closes a connection if it still waits for its client.
func (l *loop) yield(fd int, c *loopConn) {
	l.lock()
	defer l.unlock()
	if l.conns[fd] != c || c.busy {
		return
	}
	c.ready = true
	if l.serve(c); l.conns[fd] == c && !c.busy { // a request may have come
		l.close(c)
	}
}

// Peer returns the source of a pending request's connection.
func (f *Pending) Peer() string {
	if f.conn == nil {
		return ""
	}
	return sourceOf(f.conn.fd)
}

// sourceOf returns the source of a socket's other end; empty when the socket has ended.
func sourceOf(fd int) string {
	peer, err := unix.Getpeername(fd)
	if err != nil { // it is gone
		return ""
	}
	switch peer := peer.(type) {
	case *unix.SockaddrInet4:
		return fair.Source(&net.TCPAddr{IP: peer.Addr[:]})
	case *unix.SockaddrInet6:
		return fair.Source(&net.TCPAddr{IP: peer.Addr[:]})
	}
	return ""
}

// drain closes connections that have nothing under way, and each of the others after its response.
// A connection that has just come may send its first request for that many seconds.
func (l *loop) drain(first int64) {
	l.lock()
	defer l.unlock()
	l.draining, l.first = true, first
	for _, c := range l.conns {
		if c != nil && !c.busy {
			c.ready = true
			l.clock()
			l.serve(c) // what came already
		}
	}
}

// end stops the loop. Either nothing is under way any more, or what is under way is given up.
func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.landedMu.Lock()
	l.over, l.landed = true, nil
	close(l.landing)
	l.landedMu.Unlock()
	l.reads.end()
	l.poll.Close()
	for _, c := range l.conns {
		if c != nil {
			l.close(c)
		}
	}
}
