//go:build linux && (amd64 || arm64)

package eventloop

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/internal/socket"
)

// epollWait returns the events that there are. It does not block, so the scheduler need not know of
// the call.
func epollWait(fd uintptr, events []unix.EpollEvent) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// attached is a connection of the Go runtime around a file descriptor that a loop had. net.FileConn
// would need a second descriptor for a moment: with none left, a connection would be lost. It also
// takes three more system calls for each connection.
type attached struct{ file *os.File }

// attach returns such a connection. The descriptor belongs to it from then on.
func attach(fd int) net.Conn { return attached{os.NewFile(uintptr(fd), "")} }

// detach takes a connection from the runtime and returns its file descriptor, which is the
// caller's. It reports false, and has done nothing, when the connection is no socket of the
// kernel's or when no descriptor is left.
func detach(c net.Conn) (int, bool) {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn, *socket.Conn, attached:
	default:
		return 0, false
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, false
	}
	fd := -1
	if err := raw.Control(func(f uintptr) { fd, _ = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		return 0, false
	}
	_ = c.Close()
	return fd, true
}

// failed returns err as package net would return it, except for io.EOF.
func (c attached) failed(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c attached) Read(b []byte) (int, error) {
	n, err := c.file.Read(b)
	return n, c.failed("read", err)
}

func (c attached) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	return n, c.failed("write", err)
}

func (c attached) Close() error                          { return c.file.Close() }
func (c attached) SetDeadline(t time.Time) error         { return c.file.SetDeadline(t) }
func (c attached) SetReadDeadline(t time.Time) error     { return c.file.SetReadDeadline(t) }
func (c attached) SetWriteDeadline(t time.Time) error    { return c.file.SetWriteDeadline(t) }
func (c attached) SyscallConn() (syscall.RawConn, error) { return c.file.SyscallConn() }
func (c attached) LocalAddr() net.Addr                   { return c.address(unix.Getsockname) }
func (c attached) RemoteAddr() net.Addr                  { return c.address(unix.Getpeername) }

// CloseWrite closes the sending half.
func (c attached) CloseWrite() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) })
	return errors.Join(failed, err)
}

// address asks the kernel for an address; hardly any connection is asked for one.
func (c attached) address(ask func(int) (unix.Sockaddr, error)) net.Addr {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return &net.TCPAddr{}
	}
	var name unix.Sockaddr
	_ = raw.Control(func(fd uintptr) { name, _ = ask(int(fd)) })
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *unix.SockaddrInet6:
		zone := ""
		if a.ZoneId != 0 {
			zone = strconv.FormatUint(uint64(a.ZoneId), 10)
		}
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port, Zone: zone}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: a.Name, Net: "unix"}
	}
	return &net.TCPAddr{}
}
