package conn

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/redistest"
)

// wired is a tracked connection, and its other end.
func wired(t *testing.T) (*Tracked, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := Options{}.Connect(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); peer.Close() })
	l := &Client{wires: map[*Tracked]struct{}{}}
	return l.add(conn), peer
}

// What left of a batch before its connection was given up may have been executed.
func TestAWireCountsWhatHasLeft(t *testing.T) {
	w, peer := wired(t)
	written := make(chan error)
	go func() {
		_, err := w.Write(make([]byte, 64<<20)) // the server does not read it all
		written <- err
	}()
	if _, err := io.ReadFull(peer, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	sent := w.Seal()
	if err := <-written; err == nil {
		t.Fatal("everything has left")
	}
	if rest, err := io.Copy(io.Discard, peer); err != nil || rest+100 != sent {
		t.Errorf("%d bytes came, %d are said to be sent; %v", rest+100, sent, err)
	}
}

// A server that goes away between two batches has not executed the second:
// nothing of it may be sent, so that it can go to the next master.
func TestAWireSendsNothingAfterItsEnd(t *testing.T) {
	w, peer := wired(t)
	l := w.client
	if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	peer.Close()
	if _, err := io.Copy(io.Discard, bufio.NewReader(w)); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("read ended with %v", err) // a reset is an end too
	}
	redistest.Eventually(t, 5*time.Second, "the connection has ended", func() bool {
		select {
		case <-w.Ended:
			return true
		default:
			return false
		}
	})
	if n, err := w.Write([]byte("de")); n != 0 || !errors.Is(err, outcome.ErrNotSent) {
		t.Errorf("a write after the end: %d, %v", n, err)
	}
	if got := w.Seal(); got != 3 {
		t.Errorf("%d bytes are said to be sent, want 3", got)
	}
	if l.Only() != nil {
		t.Error("the client still counts the connection")
	}
	if outcome.FateOf(outcome.ErrNotSent, false) != outcome.Later || outcome.FateOf(outcome.ErrNotSent, true) != outcome.Lost {
		t.Error("what was not sent is to be tried again, and what was sent is lost")
	}
}
