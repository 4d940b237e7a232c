package eventloop

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// newDeferredReadConn returns a connection that holds no buffer while it idles. Between two
// requests the HTTP server gives its own buffers back, and then reads one byte, the first of the
// next request. This connection reads as much as there is instead, which saves a second system
// call. early is what was already read from conn. When home is not nil, the connection goes back to
// home's loops between two requests: with the first request that is for a loop, once it has had
// stay others here.
func newDeferredReadConn(conn net.Conn, early []byte, home *Manager, stay int32) net.Conn {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return conn
	}
	c := &deferredReadConn{Conn: conn, raw: raw, early: early, home: home, stay: stay, whole: stay}
	c.try = c.tryRead
	return c
}

// lazySize is how many bytes one read takes in: most requests as a whole.
const lazySize = 4 << 10

var lazyBuffers = sync.Pool{New: func() any { return new([lazySize]byte) }}

// deferredReadConn is a connection that takes a buffer only when there is something to read.
type deferredReadConn struct {
	net.Conn
	raw syscall.RawConn
	try func(fd uintptr) bool // tryRead, bound once

	// buf[start:end] holds what was read from the connection and not yet asked for. nil: there is
	// nothing. One goroutine reads at a time.
	buf        *[lazySize]byte
	start, end int
	err        error

	early []byte
	home  *Manager
	stay  int32 // requests to go before it may go back
	whole int32 // what stay was at the beginning
	// state says what Close does. At its end the HTTP server may call Close twice, and while
	// another goroutine reads.
	state atomic.Int32
	// between: the HTTP server waits for the next request. A read of one byte alone does not show
	// that: a reader whose buffer is nearly full of a header reads one byte, too.
	between bool
}

// The values of deferredReadConn.state.
const (
	open int32 = iota // Close closes the connection
	back              // Close gives it back to a loop, with what is in buf
	gone              // Close does nothing
)

// Read implements net.Conn. A read into a large p needs no buffer.
func (c *deferredReadConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	if c.state.Load() == back {
		return 0, io.EOF // what is in buf goes back to a loop with the connection
	}

	if c.buf == nil {
		if len(p) != 1 {
			return c.Conn.Read(p)
		}
		if err := c.raw.Read(c.try); err != nil {
			return 0, err
		}
		if c.err != nil {
			err := c.err
			c.err = nil
			return 0, err
		}
		switch {
		case c.home == nil || !c.between:
		case c.stay > 0:
			c.stay--
		case c.home.wants(c.buf[:c.end]):
			c.home.reserve() // until Close
			if !c.state.CompareAndSwap(open, back) {
				c.home.unreserve()
			}
			return 0, io.EOF
		}
	}

	n := copy(p, c.buf[c.start:c.end])
	if c.start += n; c.start == c.end {
		lazyBuffers.Put(c.buf)
		c.buf = nil
	}
	return n, nil
}

// tryRead reads once. It reports whether there is a result, in buf or err; if not, the runtime
// waits until the connection can be read and calls it again.
func (c *deferredReadConn) tryRead(fd uintptr) bool {
	buf := lazyBuffers.Get().(*[lazySize]byte)
	var n int
	var err error
	for {
		if n, err = syscall.Read(int(fd), buf[:]); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case err == nil && n > 0:
		c.buf, c.start, c.end = buf, 0, n
		return true
	case errors.Is(err, syscall.EAGAIN):
		lazyBuffers.Put(buf)
		return false
	case err == nil:
		err = io.EOF
	default:
		err = &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	}
	lazyBuffers.Put(buf)
	c.err = err
	return true
}

// Close closes the connection or gives it back to a loop; once.
func (c *deferredReadConn) Close() error {
	if c.state.CompareAndSwap(open, gone) {
		return c.Conn.Close()
	}
	if !c.state.CompareAndSwap(back, gone) {
		return nil
	}
	err := c.home.reclaim(c.Conn, c.buf[:c.end], c.whole)
	lazyBuffers.Put(c.buf)
	c.buf = nil
	return err
}

// CloseWrite closes the sending half.
func (c *deferredReadConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
