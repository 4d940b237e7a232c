//go:build linux && (amd64 || arm64)

package socket

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostAtOnce is how many bytes one system call takes: nobody else has its
// processor meanwhile.
const mostAtOnce = 256 << 10

// Receive reads what a socket has, into b, which is not empty. Its error is
// EAGAIN when there is nothing, whatever the socket is set to (recv(2),
// MSG_DONTWAIT); 0 bytes and no error are the end.
func Receive(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(min(len(b), mostAtOnce)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// Transmit writes as much of b, which is not empty, as a socket takes. Its error
// is EAGAIN when that is nothing.
func Transmit(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(min(len(b), mostAtOnce)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// Stream is a connection's bytes. One goroutine may read while another writes.
type Stream struct {
	raw     syscall.RawConn
	in, out transfer
	// receive and transmit are made once.
	receive, transmit func(fd uintptr) bool
}

// transfer is a Read or a Write that is under way.
type transfer struct {
	b     []byte // what is left of it
	n     int    // bytes
	errno syscall.Errno
}

// NewStream is the bytes of a stream socket that the runtime polls.
func NewStream(raw syscall.RawConn) *Stream {
	s := &Stream{raw: raw}
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
			n, errno := Transmit(int(fd), t.b)
			switch errno {
			case 0:
				t.b, t.n = t.b[n:], t.n+n
			case unix.EINTR:
			case unix.EAGAIN:
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

// Read is io.Reader's. It waits, without a thread, as long as the connection's
// deadline lets it.
func (s *Stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in = transfer{b: b}
	err := s.raw.Read(s.receive)
	t := s.in
	s.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, os.NewSyscallError("recvfrom", t.errno)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write is io.Writer's, and waits as Read does.
func (s *Stream) Write(b []byte) (int, error) {
	s.out = transfer{b: b}
	err := s.raw.Write(s.transmit)
	t := s.out
	s.out.b = nil
	if err == nil && t.errno != 0 {
		err = os.NewSyscallError("sendto", t.errno)
	}
	return t.n, err
}

// Conn is a TCP connection, read from and written to as a Stream.
type Conn struct {
	*net.TCPConn
	*Stream
}

// Swift makes a connection one of these, if it can be one. It waits for nothing.
func Swift(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &Conn{TCPConn: t, Stream: NewStream(raw)}
}

// Read is net.Conn's.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	return n, c.told("read", err)
}

// Write is net.Conn's.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	return n, c.told("write", err)
}

// told is an error as package net has it.
func (c *Conn) told(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if inside, ok := err.(*net.OpError); ok {
		err = inside.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
