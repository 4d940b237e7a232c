//go:build linux && (amd64 || arm64)

package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair is a connection, swift, and its other end.
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
	swift = Swift(dialled)
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
	// More than the kernel takes at once, for a reader that comes late.
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
	other.Close() // by a reset
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

func TestCloseEndsWhatWaits(t *testing.T) {
	swift, _ := pair(t)
	read := make(chan error)
	go func() {
		_, err := swift.Read(make([]byte, 1))
		read <- err
	}()
	written := make(chan error)
	go func() {
		_, err := swift.Write(make([]byte, 64<<20)) // nobody reads it
		written <- err
	}()
	time.Sleep(20 * time.Millisecond) // they wait, most likely; if not, it is refused
	swift.Close()
	for _, err := range []error{<-read, <-written} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

func TestWhatIsNoTCPStaysAsItIs(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Swift(a) != a {
		t.Error("it is another")
	}
}
