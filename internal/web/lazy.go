package web

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// newLazy makes a connection that holds no buffer while it idles. The HTTP
// server gives its own buffers back between two requests and then waits for the
// first byte of the next one, alone; here that one read takes the whole request
// along, where it would cost a second system call. early was read of it
// already. Between two requests it goes back to home, which may be nil, with the
// first one that is for its loops, after stay others.
func newLazy(conn net.Conn, early []byte, home *engine, stay int32) net.Conn {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return conn
	}
	c := &lazyConn{Conn: conn, raw: raw, early: early, home: home, stay: stay, whole: stay}
	c.try = c.tryRead
	return c
}

// lazySize is what one read takes in at most: most requests as a whole.
const lazySize = 4 << 10

var lazyBuffers = sync.Pool{New: func() any { return new([lazySize]byte) }}

// lazyConn takes a buffer only when there is something to read.
type lazyConn struct {
	net.Conn
	raw syscall.RawConn
	try func(fd uintptr) bool // tryRead, made once

	// buf holds buf[start:end], which was read and not yet asked for; nil:
	// nothing. One goroutine reads at a time.
	buf        *[lazySize]byte
	start, end int
	err        error

	early []byte
	home  *engine
	stay  int32 // requests to go
	whole int32 // stay at the beginning
	// state is what Close does. The HTTP server may call it twice at its end,
	// and while another goroutine reads.
	state atomic.Int32
	// between says that the HTTP server waits for the next request. It alone does
	// not follow from the read of one byte: a reader whose buffer is nearly full
	// of a header asks for one, too.
	between bool
}

// The states of a connection.
const (
	open int32 = iota
	back       // Close gives it back, with what is in buf
	gone       // Close does nothing
)

// Read is net.Conn's. A large p is read into directly.
func (c *lazyConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	if c.state.Load() == back {
		return 0, io.EOF // what is in buf goes with it
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
			c.home.claim() // until Close
			if !c.state.CompareAndSwap(open, back) {
				c.home.disclaim()
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

// tryRead reads if there is something to read, and answers whether that is
// settled; if not, the runtime waits until it may be.
func (c *lazyConn) tryRead(fd uintptr) bool {
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

// Close closes the connection, or gives it back; once.
func (c *lazyConn) Close() error {
	if c.state.CompareAndSwap(open, gone) {
		return c.Conn.Close()
	}
	if !c.state.CompareAndSwap(back, gone) {
		return nil
	}
	err := c.home.takeBack(c.Conn, c.buf[:c.end], c.whole)
	lazyBuffers.Put(c.buf)
	c.buf = nil
	return err
}

// CloseWrite closes the sending half.
func (c *lazyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
