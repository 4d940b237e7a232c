//go:build linux && (amd64 || arm64)

package eventloop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
)

// Manager decides where a connection is served: on an event loop while its requests are simple,
// and otherwise by the HTTP server. A connection is at one place at a time, and moves only between two
// requests.
type Manager struct {
	http    *fasthttp.Server
	handler Handler // nil: the HTTP server serves everything
	limit   int     // connections at once
	table   *connTable
	turned  *fair.TurnedAway

	listeners listenerSet
	toHTTP    *chanListener
	loops     []*loop
	next      atomic.Uint32 // of loops
	// open counts the connections that are not the HTTP server's. A connection that moves is
	// counted at its new place before it is taken off at the old one, so shutdown never counts too
	// few.
	open   atomic.Int64
	unread atomic.Int64 // of answers that their clients do not read: see maxUnread
	began  time.Time
	second atomic.Int64 // now, as the sweep of each second sets it

	mu      sync.Mutex
	started bool
	fault   error      // why a loop broke
	served  chan error // the HTTP server's result
	work    sync.WaitGroup
	life    context.Context // ends at the very end of shutdown
	end     context.CancelFunc
}

// maxUnread bounds the bytes of short answers that wait for clients that do not read them. Beyond
// it, the next such client is cut off.
const maxUnread = 64 << 20

// New returns a manager. It starts nothing. http is from HTTPServer; h answers simple requests, and if
// it is nil, the HTTP server serves everything. limit is how many connections there may be at once, and
// t counts those that are turned away.
func New(http *fasthttp.Server, h Handler, limit int, t *fair.TurnedAway) *Manager {
	e := &Manager{http: http, handler: h, limit: roomFor(limit), turned: t, toHTTP: newChanListener(), began: time.Now()}
	e.table = newConnTable(t)
	e.life, e.end = context.WithCancel(context.Background())
	return e
}

// now returns the clock by which connections idle, in seconds since began. It is monotonic: the
// wall clock may be set.
func (e *Manager) now() int64 { return int64(time.Since(e.began) / time.Second) }

// Connections returns how many connections are open. The HTTP server's own count would leave out
// those that it was given and has not accepted yet.
func (e *Manager) Connections() int {
	if e.handler == nil {
		return max(0, int(e.http.GetOpenConnectionsCount()))
	}
	return int(e.table.open.Load() + e.open.Load())
}

// Serve serves a listener's connections until shutdown.
func (e *Manager) Serve(ln net.Listener) error {
	if !e.listeners.add(ln) {
		return net.ErrClosed
	}
	defer e.listeners.done()
	if e.handler == nil {
		return e.http.Serve(listener{ln})
	}
	if err := e.start(); err != nil {
		return err
	}
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			e.accept(conn)
		case passes(err):
			time.Sleep(10 * time.Millisecond) // until others have closed
		case errors.Is(err, net.ErrClosed):
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.fault
		default:
			return err
		}
	}
}

// passes reports whether the next accept may succeed (accept(2), "Error handling"): only that one
// connection failed, or there is no room at the moment.
func passes(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && slices.Contains([]syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC, syscall.ECONNABORTED, syscall.EPERM, syscall.EPROTO,
		syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENONET, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
	}, errno)
}

// fail ends serving because a loop broke. Serve returns the error.
func (e *Manager) fail(err error) {
	e.mu.Lock()
	e.fault = errors.Join(e.fault, err)
	e.mu.Unlock()
	_ = e.listeners.close()
}

// start starts the loops, once, with the first listener.
func (e *Manager) start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return nil
	}
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(e)
		if err != nil {
			for _, l := range e.loops {
				l.end()
			}
			e.loops = nil
			return err
		}
		e.loops = append(e.loops, l)
	}

	e.started = true
	e.second.Store(e.now())
	for _, l := range e.loops {
		e.work.Go(l.run)
		e.work.Go(l.answer)
	}
	e.work.Go(e.sweep)
	e.served = make(chan error, 1)
	go func() { e.served <- e.http.Serve(e.toHTTP) }()
	return nil
}

// accept puts a new connection on a loop, or turns it away when there are too many.
func (e *Manager) accept(conn net.Conn) {
	if e.Connections() >= e.limit-e.limit/scarcePart && e.table.due() {
		e.makeRoom()
	}
	if e.Connections() >= e.limit {
		e.turned.Connections.Add(1)
		e.work.Go(func() { reject(conn) })
		return
	}
	e.assign(conn, nil, &loopConn{fresh: true})
}

// makeRoom closes some of the connections that wait for their clients.
func (e *Manager) makeRoom() {
	all := e.table.waiting(awaits, arrives, lingers)
	for _, l := range e.loops {
		all = append(all, l.waiting()...)
	}
	e.table.closeAll(choose(all, max(1, e.limit/scarcePart)))
}

// roomFor returns how many of limit connections fit into the process' open files. Some of the files
// are left to connections to Redis and to everything else.
func roomFor(limit int) int {
	const others = 256
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil || files.Cur > uint64(limit+others) {
		return limit
	}
	return max(1, int(files.Cur)-others)
}

// assign puts a connection on a loop. early is what was already read from it, and c what the loop
// knows about it. A connection that no loop can take goes to the HTTP server.
func (e *Manager) assign(conn net.Conn, early []byte, c *loopConn) {
	fd, ok := detach(conn)
	if !ok {
		e.handOff(newConn(conn, slices.Clone(early), e, c.away()))
		return
	}
	c.fd = fd
	switch err := e.place().add(c, early); {
	case errors.Is(err, errOver):
		_ = syscall.Close(fd)
	case err != nil: // the kernel polls no more: see epoll_ctl(2), ENOSPC
		e.handOff(newConn(attach(fd), slices.Clone(early), e, c.away()))
	}
}

// place returns the loop for the next connection, in turn.
func (e *Manager) place() *loop { return e.loops[int(e.next.Add(1))%len(e.loops)] }

// reject tells a client, in the HTTP server's words, that there are too many connections.
func reject(conn net.Conn) {
	const words = "The connection cannot be served because Server.Concurrency limit exceeded"
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nDate: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		time.Now().UTC().Format(httpfast.DateLayout), len(words), words)
	_ = conn.Close()
}

// handOff gives a connection to the HTTP server. The HTTP server accepts none once it is shutting
// down; a connection that a loop gives away then is served all the same.
func (e *Manager) handOff(conn net.Conn) {
	e.open.Add(1)
	if e.toHTTP.give(conn) {
		e.open.Add(-1)
		return
	}
	e.work.Go(func() {
		defer e.open.Add(-1)
		_ = e.http.ServeConn(conn) // its error is the client's: it has its answer or is gone
	})
}

// wants reports whether the bytes of a request are for a loop.
func (e *Manager) wants(b []byte) bool {
	var q httpfast.Request
	return q.Parse(b) && e.handler.Wants(&q)
}

// reserve counts a connection that is about to come back to a loop, so that shutdown waits for it:
// fasthttp takes a connection off its own count before it closes it.
func (e *Manager) reserve() { e.open.Add(1) }

// unreserve undoes reserve.
func (e *Manager) unreserve() { e.open.Add(-1) }

// reclaim takes a connection back from the HTTP server, with the first bytes of its next request.
// The connection was there for at least stay requests.
func (e *Manager) reclaim(conn net.Conn, b []byte, stay int32) error {
	defer e.unreserve()
	e.assign(conn, b, &loopConn{stay: stay})
	return nil
}

// writeAsync has a goroutine make an answer and write it to a connection of a loop. The connection
// leaves the loop for that time, and comes back to one afterwards.
func (e *Manager) writeAsync(c *loopConn, answer func(conn net.Conn) error) {
	e.open.Add(1)
	c.loop.remove(c)
	e.work.Go(func() {
		defer e.open.Add(-1)
		conn := attach(c.fd)
		if err := answer(conn); err != nil {
			_ = conn.Close()
			return
		}
		_ = conn.SetWriteDeadline(time.Time{})
		e.assign(conn, nil, &loopConn{stay: c.stay, run: c.run})
	})
}

// sweep sets the clock each second, and ends connections that idle too long.
func (e *Manager) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now := e.now()
			e.second.Store(now)
			for _, l := range e.loops {
				l.sweep(now)
			}
		case <-e.life.Done():
			return
		}
	}
}

// Shutdown ends serving, in this order. No connection is accepted any more, and each accepted one
// has its place. Idle connections close. A connection that has sent a request gets its answer
// first, and a new one has some seconds for its first request, because a balancer may just be
// sending it. The HTTP server does the same. Everything stops when the last answer is out, or when
// the context ends; then the error is the context's.
func (e *Manager) Shutdown(ctx context.Context) error {
	err := e.listeners.close()
	if e.handler == nil {
		return errors.Join(err, e.http.ShutdownWithContext(ctx))
	}
	e.listeners.serving.Wait()
	e.mu.Lock()
	started := e.started
	e.mu.Unlock()
	if !started {
		return err
	}

	first := int64(firstTimeout / time.Second)
	if end, ok := ctx.Deadline(); ok { // sweep looks at them once a second
		first = max(0, min(first, int64(time.Until(end)/time.Second)-2))
	}
	for _, l := range e.loops {
		l.drain(first)
	}
	select {
	case <-e.toHTTP.begun: // shut down before it has begun, the HTTP server would not know that it is to end
	case <-ctx.Done():
	}

	err = errors.Join(err, e.http.ShutdownWithContext(ctx))
	_ = e.toHTTP.Close() // also when the HTTP server had not begun
	<-e.served

	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ended := ctx.Err() != nil; e.open.Load() > 0 && !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			err, ended = errors.Join(err, ctx.Err()), true
		}
	}

	e.end()
	for _, l := range e.loops {
		l.end()
	}
	if ctx.Err() == nil {
		e.work.Wait() // only within the context, since a client may be slow
	}
	return err
}
