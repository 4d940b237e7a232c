package host

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/listener"
)

// The protocols of a host's port, as TLS negotiates them (ALPN, RFC 7301).
const (
	agreementProtocol = "holdfast-agreement/1"
	machineProtocol   = "holdfast-machine/1"
	webProtocol       = "http/1.1"
)

var protocols = []string{agreementProtocol, machineProtocol, webProtocol}

// handshakeLimit is how long a TLS handshake at the port may take.
const handshakeLimit = 5 * time.Second

// port is a host's port. It does the TLS handshake, and hands each connection to the part of
// the host that serves the connection's protocol.
type port struct {
	listener net.Listener
	tls      *tls.Config
	log      *slog.Logger

	agreement, web *listener.Chan
	onMachine      func(conn *tls.Conn)
	// admits reports whether the peer of a connection may use the connection's protocol.
	admits    func(conn *tls.Conn) bool
	strangers strangers

	mu sync.Mutex
	// patience is handshakeLimit, except in tests.
	patience time.Duration
	open     map[*tls.Conn]struct{}
	closed   bool
	tasks    sync.WaitGroup
}

func newPort(l net.Listener, cfg *tls.Config, log *slog.Logger) *port {
	return &port{
		listener: l, tls: cfg, log: log, patience: handshakeLimit, open: map[*tls.Conn]struct{}{},
		agreement: listener.NewChan(l.Addr()), web: listener.NewChan(l.Addr()),
	}
}

// serve accepts connections until the port is closed, and waits until all of them were
// handled.
func (p *port) serve() {
	defer p.tasks.Wait()
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if p.isClosed() {
				return
			}
			p.log.Error("the port of this host takes no connection", "error", err)
			time.Sleep(100 * time.Millisecond) // perhaps out of file descriptors
			continue
		}
		p.strangers.add(conn)
		p.tasks.Go(func() {
			if shaken := p.shake(conn); shaken != nil {
				p.pass(shaken)
			}
		})
	}
}

// shake does the TLS handshake. It returns nil if the handshake failed.
func (p *port) shake(conn net.Conn) *tls.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive) // the connection works without, too
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = limitUnsent("", "", raw)
		}
	}

	secured := tls.Server(conn, p.tls)
	limit, open := p.add(secured)
	if !open {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		// Two failures are not logged: a connection that was closed as one of too many
		// (strangers), and one that only tested whether this machine is there (Host.Alone).
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			p.log.Warn("a connection was refused", "from", conn.RemoteAddr(), "why", err)
		}
		p.drop(secured)
		return nil
	}

	if len(secured.ConnectionState().VerifiedChains) > 0 {
		p.strangers.remove(conn)
	}
	return secured
}

// pass hands a connection to the part of the host that serves its protocol.
func (p *port) pass(conn *tls.Conn) {
	if !p.admits(conn) {
		p.drop(conn)
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case machineProtocol:
		p.onMachine(conn)
		p.drop(conn)
	case agreementProtocol:
		p.agreement.Give(&tracked{conn, p})
	default:
		p.web.Give(conn) // see webState
	}
}

// webState forgets connections of the web server that were closed. They cannot be wrapped in
// tracked like those of the agreement: net/http finds the peer's certificate only in a
// *tls.Conn.
func (p *port) webState(conn net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		p.drop(conn.(*tls.Conn))
	}
}

// add adds a connection, and returns how long its handshake may take. If the port is closed,
// it closes the connection and returns false.
func (p *port) add(conn *tls.Conn) (patience time.Duration, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.strangers.remove(conn.NetConn())
		_ = conn.Close()
		return 0, false
	}
	p.open[conn] = struct{}{}
	return p.patience, true
}

func (p *port) drop(conn *tls.Conn) {
	p.mu.Lock()
	delete(p.open, conn)
	p.mu.Unlock()
	p.strangers.remove(conn.NetConn())
	_ = conn.Close()
}

func (p *port) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// close closes the port and all its connections.
func (p *port) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	for conn := range p.open {
		_ = conn.NetConn().Close() // at once, without TLS's closing message
	}
	p.mu.Unlock()
	_ = p.agreement.Close()
	_ = p.web.Close()
}

// tracked is a connection that the port forgets when the connection is closed.
type tracked struct {
	*tls.Conn
	port *port
}

func (t *tracked) Close() error {
	t.port.drop(t.Conn)
	return nil
}

// unsentLimit is how long sent data may stay unacknowledged before the kernel closes the
// connection.
const unsentLimit = 3 * time.Second

// limitUnsent sets unsentLimit for a connection (Linux, tcp(7), TCP_USER_TIMEOUT). Keep-alive
// does not help there: the kernel sends no keep-alive probes while data is unacknowledged.
func limitUnsent(_, _ string, raw syscall.RawConn) error {
	var err error
	if outer := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unsentLimit.Milliseconds()))
	}); outer != nil {
		return outer
	}
	return err
}
