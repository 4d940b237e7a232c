//go:build linux && (amd64 || arm64)

package eventloop

import (
	"io"
	"net"
	"sync"
)

// chanListener is a listener whose connections come from the loops: the HTTP server accepts from it.
type chanListener struct {
	mu     sync.Mutex
	more   sync.Cond
	conns  []net.Conn
	closed bool
	begun  chan struct{} // closed when the HTTP server accepts
	begin  sync.Once
}

func newChanListener() *chanListener {
	h := &chanListener{begun: make(chan struct{})}
	h.more.L = &h.mu
	return h
}

// give hands a connection to the HTTP server. It reports false when the listener is closed.
func (h *chanListener) give(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.conns = append(h.conns, c)
	h.more.Signal()
	return true
}

// Accept implements net.Listener. What was given before Close is still accepted.
func (h *chanListener) Accept() (net.Conn, error) {
	h.begin.Do(func() { close(h.begun) })
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

// Close implements net.Listener.
func (h *chanListener) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.more.Broadcast()
	return nil
}

// Addr implements net.Listener.
func (h *chanListener) Addr() net.Addr { return &net.UnixAddr{Name: "handed", Net: "unix"} }
