// Package listener has a net.Listener whose connections are handed in, by a port that has
// accepted them itself and looks at how each of them begins.
//
// What decides where a connection belongs does not live here (packages host and pod).
package listener

import (
	"net"
	"sync"
)

// Chan is a net.Listener that gets its connections from Give. It is safe for concurrent use.
type Chan struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// NewChan returns a listener that reports this address as its own.
func NewChan(addr net.Addr) *Chan {
	return &Chan{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Give waits until the connection is accepted, or closes it if the listener is closed.
func (l *Chan) Give(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (l *Chan) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It does not close connections that were accepted.
func (l *Chan) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Chan) Addr() net.Addr { return l.addr }

// Done returns a channel that is closed when the listener is closed.
func (l *Chan) Done() <-chan struct{} { return l.closed }
