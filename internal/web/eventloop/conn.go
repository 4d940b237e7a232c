package eventloop

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
)

// Time limits of a connection. idleTimeout is longer than HAProxy keeps an idle connection to a
// server (pool-purge-delay, 5 s; HAProxy manual, section 4.2). So HAProxy closes first, and no
// request meets a connection that is closing.
const (
	idleTimeout  = 75 * time.Second
	lingerTime   = 5 * time.Second
	firstTimeout = 5 * time.Second // for the first request of a new connection when the server ends, as in the HTTP server
)

// HTTPServer returns a web node's HTTP server, with its limits and time-outs, around a handler. It
// serves by a Manager alone, which makes its connections.
func HTTPServer(handler fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:               handler,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		Concurrency:           16384,
		ReadBufferSize:        httpfast.MaxHeader,
		ReduceMemoryUsage:     true, // otherwise every idle connection keeps a buffer of httpfast.MaxHeader
		ReadTimeout:           httpfast.ReadTimeout,
		WriteTimeout:          httpfast.WriteTimeout,
		IdleTimeout:           idleTimeout,
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true,
		ConnState:             between,
		Logger:                discard{},

		DisablePreParseMultipartForm: true,
	}
}

// discard drops what fasthttp logs about clients' mistakes: the clients are told.
type discard struct{}

func (discard) Printf(string, ...any) {}

// listener makes the connections that it accepts ready for the HTTP server.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, nil, nil, 0), nil
}

// conn is a connection of the HTTP server that may be closed while its client still sends. If it
// were closed outright, the kernel would answer what still comes with a reset, which can take the
// response away before the client has read it (RFC 9112, section 9.6).
type conn struct {
	net.Conn
	lingers atomic.Bool
	table   *connTable   // nil: the connection is not closed to make room
	doing   atomic.Int32 // a connState
	since   atomic.Int64 // when it began that, by the table's clock
}

// newConn returns a connection for the HTTP server: see newDeferredReadConn.
func newConn(c net.Conn, early []byte, home *Manager, stay int32) net.Conn {
	made := &conn{Conn: newDeferredReadConn(c, early, home, stay)}
	if home != nil && home.table != nil {
		made.table = home.table
		made.since.Store(int64(home.table.clock()))
		home.table.enter(made)
	}
	return made
}

// between notes whether a connection is between two requests. It is fasthttp.Server.ConnState,
// which the goroutine that reads the connection calls.
func between(c net.Conn, state fasthttp.ConnState) {
	if c, ok := c.(*conn); ok {
		switch state {
		case fasthttp.StateActive:
			c.is(arrives)
		case fasthttp.StateIdle:
			c.is(awaits)
		}
		if l, ok := c.Conn.(*deferredReadConn); ok && (state == fasthttp.StateActive || state == fasthttp.StateIdle) {
			l.between = state == fasthttp.StateIdle
		}
	}
}

var _ response.ClientConn = (*conn)(nil) // else long responses would have no deadlines of their own

// IsClientConn marks the connection: see response.ClientConn.
func (c *conn) IsClientConn() {}

// Linger has the connection wait, when it is closed, until its client has closed, too.
func (c *conn) Linger() { c.lingers.Store(true) }

// Linger has the request's connection linger: when it is closed, its client may still be sending.
func Linger(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*conn); ok {
		c.Linger()
	}
}

// Close closes the connection. One that lingers closes its sending half first, and the rest when
// its client has closed or lingerTime has passed.
func (c *conn) Close() error {
	if c.table != nil {
		defer c.table.leave(c)
		defer c.is(closed)
	}
	if c.lingers.CompareAndSwap(true, false) && connState(c.doing.Load()) != yielding {
		if c.table != nil {
			c.is(lingers)
		}
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = c.SetReadDeadline(time.Now().Add(lingerTime))
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{c.Conn})
		}
	}
	return c.Conn.Close()
}
