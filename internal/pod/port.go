package pod

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long somebody at the port may take to begin to speak, and to ask.
	patience = 5 * time.Second
	// mostWaiting is how many may be there who have not begun to speak. Further ones are
	// turned away: there are as many pods as a stack has, and a kubelet.
	mostWaiting = 256
	// handshake is the first byte of a connection that begins with TLS (RFC 8446, 5.1).
	handshake = 0x16
)

// port is a pod's port, for those who speak TLS and for those who do not.
type port struct {
	net.Listener
	plain, secure *side
	// settings are those of TLS; nil: nobody is answered who speaks it.
	settings atomic.Pointer[tls.Config]
}

func newPort(l net.Listener) *port {
	return &port{Listener: l, plain: newSide(l.Addr()), secure: newSide(l.Addr())}
}

// serve passes connections on until the port is closed.
func (p *port) serve() {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	places := make(chan struct{}, mostWaiting)
	for {
		conn, err := p.Accept()
		if err != nil {
			select {
			case <-p.plain.closed:
				return
			case <-time.After(100 * time.Millisecond): // out of files, perhaps
				continue
			}
		}
		select {
		case places <- struct{}{}:
			waiting.Go(func() {
				p.pass(conn)
				<-places
			})
		default:
			conn.Close()
		}
	}
}

// pass gives a connection to the side that its first byte is for.
func (p *port) pass(conn net.Conn) {
	begun := &begunConn{Conn: conn, from: bufio.NewReader(conn)}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	first, err := begun.from.Peek(1)
	_ = conn.SetReadDeadline(time.Time{})
	settings := p.settings.Load()
	switch {
	case err != nil, first[0] == handshake && settings == nil:
		conn.Close()
	case first[0] == handshake:
		p.secure.give(tls.Server(begun, settings))
	default:
		p.plain.give(begun)
	}
}

// Close closes the port and both of its sides.
func (p *port) Close() error {
	p.plain.Close()
	p.secure.Close()
	return p.Listener.Close()
}

// begunConn is a connection of which the beginning was looked at.
type begunConn struct {
	net.Conn
	from *bufio.Reader
}

func (c *begunConn) Read(b []byte) (int, error) { return c.from.Read(b) }

// side is a listener that gets its connections from a port.
type side struct {
	address net.Addr
	given   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newSide(address net.Addr) *side {
	return &side{address: address, given: make(chan net.Conn), closed: make(chan struct{})}
}

func (s *side) give(conn net.Conn) {
	select {
	case s.given <- conn:
	case <-s.closed:
		conn.Close()
	}
}

func (s *side) Accept() (net.Conn, error) {
	select {
	case conn := <-s.given:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *side) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *side) Addr() net.Addr { return s.address }
