//go:build linux && (amd64 || arm64)

package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostAtOnce is how many bytes one system call of a Conn may transfer. Nothing else can use its
// processor while the kernel copies them.
const mostAtOnce = 256 << 10

// Receive reads what a socket has into b, which must not be empty. It returns EAGAIN when there is
// nothing to read, whatever the mode of the socket (recv(2), MSG_DONTWAIT). 0 bytes without an
// error are the end.
func Receive(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// Transmit writes as much of b, which must not be empty, as the socket takes. It returns EAGAIN
// when the socket takes nothing.
func Transmit(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// Conn is a TCP connection that uses Receive and Transmit. It is safe for concurrent use, like any
// net.Conn.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
	// receive and transmit are created once, for all calls.
	receive, transmit func(fd uintptr) bool
}

// transfer is a Read or a Write that is under way.
type transfer struct {
	mu    sync.Mutex // held for the whole call
	b     []byte     // what is left to read or write
	n     int        // bytes
	errno syscall.Errno
}

// NonBlocking returns c as a Conn if c is a TCP connection, and c itself otherwise. It does not
// wait.
func NonBlocking(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}

	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}

	s := &Conn{TCPConn: t, raw: raw}
	s.receive = func(fd uintptr) bool {
		for {
			if s.in.n, s.in.errno = Receive(int(fd), s.in.b); s.in.errno != unix.EINTR {
				return s.in.errno != unix.EAGAIN
			}
		}
	}

	s.transmit = func(fd uintptr) bool {
		t := &s.out
		for len(t.b) > 0 {
			n, errno := Transmit(int(fd), t.b[:min(len(t.b), mostAtOnce)])
			switch {
			case errno == 0 && n > 0:
				t.b, t.n = t.b[n:], t.n+n
			case errno == unix.EINTR:
			case errno == unix.EAGAIN:
				return false
			default:
				t.errno = errno
				return true
			}
		}
		return true
	}
	return s
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &c.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b, t.n, t.errno = b[:min(len(b), mostAtOnce)], 0, 0
	err := c.raw.Read(c.receive)
	t.b = nil
	switch {
	case err != nil:
		return 0, c.opError("read", err)
	case t.errno != 0:
		return 0, c.opError("read", os.NewSyscallError("recvfrom", t.errno))
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn. With an error it returns how many bytes may have been sent: from that,
// callers derive what certainly did not happen.
func (c *Conn) Write(b []byte) (int, error) {
	t := &c.out
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b, t.n, t.errno = b, 0, 0
	err := c.raw.Write(c.transmit)
	left := len(t.b)
	t.b = nil
	switch {
	case err != nil:
	case t.errno != 0:
		err = os.NewSyscallError("sendto", t.errno)
	case left > 0:
		err = io.ErrUnexpectedEOF // the kernel took nothing and gave no error
	default:
		return t.n, nil
	}
	return t.n, c.opError("write", err)
}

// opError returns an error in the form of package net.
func (c *Conn) opError(op string, err error) error {
	if inside, ok := err.(*net.OpError); ok {
		err = inside.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
