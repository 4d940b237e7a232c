//go:build linux && (amd64 || arm64)

package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// engine is the way of connections: simple requests are served on loops, and
// everything else by the HTTP server. A connection is at one place at a time,
// and changes it only between two requests.
type engine struct {
	http      *fasthttp.Server
	responder responder // nil: the HTTP server serves everything
	limit     int       // connections at once

	handed *handed
	loops  []*loop
	next   atomic.Uint32 // of loops
	// open counts the connections that are not the HTTP server's.
	open   atomic.Int64
	second atomic.Int64 // Unix time

	mu       sync.Mutex
	started  bool
	stopping bool
	lns      []net.Listener
	served   chan error // of the HTTP server
	work     sync.WaitGroup
	stop     chan struct{} // closed at the very end
}

func newEngine(http *fasthttp.Server, r responder, limit int) *engine {
	return &engine{http: http, responder: r, limit: limit, handed: newHanded(), stop: make(chan struct{})}
}

// connections is how many are open.
func (e *engine) connections() int {
	return max(0, int(e.http.GetOpenConnectionsCount())) + int(e.open.Load())
}

// serve serves a listener's connections until shutdown.
func (e *engine) serve(ln net.Listener) error {
	if e.responder == nil {
		return e.http.Serve(listener{ln})
	}
	if err := e.start(ln); err != nil {
		return err
	}
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			e.accept(conn)
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED):
			time.Sleep(10 * time.Millisecond) // others close
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			return err
		}
	}
}

// start starts the loops with the first listener.
func (e *engine) start(ln net.Listener) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return net.ErrClosed
	}
	e.lns = append(e.lns, ln)
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
	e.second.Store(time.Now().Unix())
	for _, l := range e.loops {
		e.work.Go(l.run)
		e.work.Go(l.answer)
	}
	e.work.Go(e.sweep)
	e.served = make(chan error, 1)
	go func() { e.served <- e.http.Serve(e.handed) }()
	return nil
}

// accept gives a new connection its place.
func (e *engine) accept(conn net.Conn) {
	if e.connections() >= e.limit {
		e.work.Go(func() { reject(conn) })
		return
	}
	fd, ok := detach(conn)
	if !ok {
		e.handed.give(newConn(conn, nil, nil, 0))
		return
	}
	if !e.place().add(fd, nil, true) {
		_ = syscall.Close(fd)
	}
}

func (e *engine) place() *loop { return e.loops[int(e.next.Add(1))%len(e.loops)] }

// reject tells a client that there are too many, in the HTTP server's words.
func reject(conn net.Conn) {
	const words = "The connection cannot be served because Server.Concurrency limit exceeded"
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nDate: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		time.Now().UTC().Format(httpDate), len(words), words)
	_ = conn.Close()
}

// wants says that the bytes of a request are for a loop.
func (e *engine) wants(b []byte) bool {
	var q simple
	return q.parse(b) && e.responder.wants(&q)
}

// takeBack takes a connection from the HTTP server, with the first bytes of its
// next request.
func (e *engine) takeBack(conn net.Conn, b []byte) error {
	fd, ok := detach(conn)
	if !ok {
		return conn.Close()
	}
	if !e.place().add(fd, b, false) {
		return syscall.Close(fd)
	}
	return nil
}

// writeSlowly writes the rest of an answer to a client that does not keep up.
func (e *engine) writeSlowly(fd int, rest []byte) {
	e.open.Add(1)
	e.work.Go(func() {
		defer e.open.Add(-1)
		conn, err := attach(fd)
		if err != nil {
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := conn.Write(rest); err != nil {
			_ = conn.Close()
			return
		}
		_ = conn.SetWriteDeadline(time.Time{})
		if fd, ok := detach(conn); ok && !e.place().add(fd, nil, false) {
			_ = syscall.Close(fd)
		}
	})
}

// sweep keeps the time, and ends connections that idle too long.
func (e *engine) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			e.second.Store(now.Unix())
			for _, l := range e.loops {
				l.sweep(now.Unix())
			}
		case <-e.stop:
			return
		}
	}
}

// shutdown ends serving, in this order: nobody is accepted any more; idle
// connections close, and those that have sent a request get their answer first;
// the HTTP server does the same; and when the last answer is out, or the context
// ends, everything stops. Its error is then the context's.
func (e *engine) shutdown(ctx context.Context) error {
	if e.responder == nil {
		return e.http.ShutdownWithContext(ctx)
	}
	e.mu.Lock()
	e.stopping = true
	var err error
	for _, ln := range e.lns {
		err = errors.Join(err, ln.Close())
	}
	started := e.started
	e.mu.Unlock()
	if !started {
		return err
	}
	for _, l := range e.loops {
		l.drain()
	}
	err = errors.Join(err, e.http.ShutdownWithContext(ctx))
	_ = e.handed.Close() // also where the server had not begun yet
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
	close(e.stop)
	for _, l := range e.loops {
		l.end()
	}
	if ctx.Err() == nil {
		e.work.Wait() // else a slow client is not waited for
	}
	return err
}

// handed is the listener of connections that loops hand to the HTTP server.
type handed struct {
	mu     sync.Mutex
	more   sync.Cond
	conns  []net.Conn
	closed bool
}

func newHanded() *handed {
	h := &handed{}
	h.more.L = &h.mu
	return h
}

// give hands a connection over; too late, it is closed.
func (h *handed) give(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		_ = c.Close()
		return
	}
	h.conns = append(h.conns, c)
	h.more.Signal()
}

// Accept is net.Listener's. What was given before the end is still accepted.
func (h *handed) Accept() (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.conns) == 0 {
		if h.closed {
			return nil, io.EOF
		}
		h.more.Wait()
	}
	c := h.conns[0]
	h.conns[0] = nil
	h.conns = h.conns[1:]
	return c, nil
}

// Close is net.Listener's.
func (h *handed) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.more.Broadcast()
	return nil
}

// Addr is net.Listener's.
func (h *handed) Addr() net.Addr { return &net.UnixAddr{Name: "handed", Net: "unix"} }
