//go:build linux && (amd64 || arm64)

package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns a connection made by NonBlocking, and its other end.
func pair(t *testing.T) (swift net.Conn, other *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{dialled, accepted} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // so that nothing hangs for ever
			t.Fatal(err)
		}
	}
	swift = NonBlocking(dialled)
	if _, ok := swift.(*Conn); !ok {
		t.Fatalf("a TCP connection became %T", swift)
	}
	t.Cleanup(func() {
		swift.Close()
		accepted.Close()
	})
	return swift, accepted.(*net.TCPConn)
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	swift, other := pair(t)
	// More than the kernel takes at once, for a reader that starts late.
	sent := make([]byte, 32<<20)
	chance := rand.NewChaCha8([32]byte{1})
	_, _ = chance.Read(sent)
	written := make(chan error, 2)
	go func() {
		n, err := swift.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		written <- err
	}()
	go func() {
		_, err := other.Write(sent)
		written <- err
	}()
	for _, reader := range []net.Conn{other, swift} {
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(reader, got); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%T read something else, or %v", reader, err)
		}
	}
	for range 2 {
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
	if n, err := swift.Write(nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
	if n, err := swift.Read(nil); n != 0 || err != nil {
		t.Errorf("to nowhere: %d, %v", n, err)
	}
}

func TestTheEndIsEOF(t *testing.T) {
	swift, other := pair(t)
	if err := other.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := swift.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := swift.Write([]byte("x")); err != nil {
		t.Errorf("the other direction: %v", err)
	}
}

func TestABrokenConnectionIsAnError(t *testing.T) {
	swift, other := pair(t)
	if err := other.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	other.Close() // this sends a reset
	if _, err := swift.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
	if _, err := swift.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("written: %v", err)
	}
}

func TestADeadlineEndsWhatWaits(t *testing.T) {
	swift, _ := pair(t)
	if err := swift.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := swift.Read(make([]byte, 1))
	n, full := swift.Write(make([]byte, 32<<20))
	for _, err := range []error{err, full} {
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v", err)
		}
	}
	if n != 0 {
		t.Errorf("%d bytes were written after the deadline", n)
	}
	if err := swift.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := swift.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("without the deadline: %d, %v", n, err)
	}
}

// Callers rely on this number: if it were too small, they would send a write twice.
func TestWhatHasLeftIsCounted(t *testing.T) {
	for name, end := range map[string]func(swift net.Conn, other *net.TCPConn){
		"closed":       func(swift net.Conn, _ *net.TCPConn) { swift.Close() },
		"too late":     func(swift net.Conn, _ *net.TCPConn) { _ = swift.SetWriteDeadline(time.Now()) },
		"reset by one": func(_ net.Conn, other *net.TCPConn) { _ = other.SetLinger(0); other.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			swift, other := pair(t)
			type outcome struct {
				n   int
				err error
			}
			read, written := make(chan error, 1), make(chan outcome, 1)
			go func() {
				_, err := swift.Read(make([]byte, 1))
				read <- err
			}()
			go func() {
				n, err := swift.Write(make([]byte, 64<<20)) // nothing reads it
				written <- outcome{n, err}
			}()
			if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			for full, last := 0, -1; full != last; { // until the write blocks
				last = full
				time.Sleep(20 * time.Millisecond)
				full = unread(t, other)
			}
			end(swift, other)
			w := <-written
			if w.err == nil || w.n == 0 {
				t.Fatalf("%+v", w)
			}
			switch name {
			case "closed":
				if err := <-read; !errors.Is(err, net.ErrClosed) || !errors.Is(w.err, net.ErrClosed) {
					t.Errorf("%v; %v", err, w.err)
				}
			case "too late":
				if !errors.Is(w.err, os.ErrDeadlineExceeded) {
					t.Error(w.err)
				}
				swift.Close()
			default:
				return // the bytes that arrived are lost
			}
			if rest, err := io.Copy(io.Discard, other); err != nil || int(rest)+1 != w.n {
				t.Errorf("%d came, %d are said to have left; %v", rest+1, w.n, err)
			}
		})
	}
}

// unread returns how many bytes have arrived at a connection and were not read.
func unread(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSeveralMayWrite(t *testing.T) {
	swift, other := pair(t)
	const each = 8 << 20
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			if n, err := swift.Write(bytes.Repeat([]byte{byte(i)}, each)); n != each || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
	got := make([]byte, 4*each)
	if _, err := io.ReadFull(other, got); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	for part := range slices.Chunk(got, each) {
		if !bytes.Equal(part, bytes.Repeat(part[:1], each)) {
			t.Error("they were mixed")
		}
	}
}

func TestWhatIsNoTCPStaysAsItIs(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NonBlocking(a) != a {
		t.Error("it is another")
	}
}
