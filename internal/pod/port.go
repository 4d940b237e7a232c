package pod

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/listener"
)

const (
	// patience is how long a connection may take to send its first byte and, with TLS, to
	// finish the handshake. A request may take as long again.
	patience = 5 * time.Second
	// mostFrom is how many connections one address may have, and mostConnections how many there
	// may be in total. The legitimate clients are the pods of the stack and one kubelet. But
	// where no network policy is enforced, any pod in the cluster can connect.
	mostFrom, mostConnections = 64, 512
	// handshake is the first byte of a TLS connection (RFC 8446, 5.1).
	handshake = 0x16
)

// port is a pod's port, for clients with TLS and without.
type port struct {
	net.Listener
	limit         *connLimit
	plain, secure *listener.Chan
	// settings are the TLS settings. While they are nil, TLS connections are closed.
	settings atomic.Pointer[tls.Config]
}

func newPort(l net.Listener) *port {
	return &port{Listener: l, limit: newConnLimit(mostFrom, mostConnections), plain: listener.NewChan(l.Addr()), secure: listener.NewChan(l.Addr())}
}

// serve accepts connections and passes them on, until the port is closed.
func (p *port) serve() {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		conn, err := p.Accept()
		if err != nil {
			select {
			case <-p.plain.Done():
				return
			case <-time.After(100 * time.Millisecond): // perhaps out of file descriptors
				continue
			}
		}
		limited := p.limit.admit(conn)
		waiting.Go(func() { p.pass(limited) })
	}
}

// pass hands a connection to the side with TLS or without, by its first byte.
func (p *port) pass(conn net.Conn) {
	begun := &begunConn{Conn: conn, from: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	first, err := begun.from.Peek(1)
	if err != nil {
		conn.Close()
		return
	}
	if first[0] != handshake {
		_ = conn.SetDeadline(time.Time{})
		p.plain.Give(begun)
		return
	}

	settings := p.settings.Load()
	if settings == nil {
		conn.Close()
		return
	}
	secure := tls.Server(begun, settings)
	if err := secure.Handshake(); err != nil {
		conn.Close() // the client was told why by a TLS alert
		return
	}
	_ = conn.SetDeadline(time.Time{})
	p.secure.Give(secure)
}

// Close closes the port, both of its sides, and all connections.
func (p *port) Close() error {
	p.plain.Close()
	p.secure.Close()
	err := p.Listener.Close()
	p.limit.Close()
	return err
}

// begunConn is a connection whose first byte was peeked at.
type begunConn struct {
	net.Conn
	from *bufio.Reader
}

func (c *begunConn) Read(b []byte) (int, error) { return c.from.Read(b) }
