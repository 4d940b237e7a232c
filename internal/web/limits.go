package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Limits of a request. /set?key=K&value=V has the value in the query, so the limit of the header is
// the value's limit there.
const (
	maxHeader = 128 << 10 // bytes of request line and header fields together
)

// Time limits of a connection. idleTimeout is longer than HAProxy keeps an idle connection to a
// server (pool-purge-delay, 5 s; HAProxy manual, section 4.2). So HAProxy closes first, and no
// request meets a connection that is closing.
const (
	readTimeout  = 10 * time.Second // for a whole request; a large body gets more
	writeTimeout = 30 * time.Second
	idleTimeout  = 75 * time.Second
	lingerTime   = 5 * time.Second
	firstTimeout = 5 * time.Second // for the first request of a new connection when the server ends, as in the HTTP server
	slowest      = 128 << 10       // bytes a second that a large body has to come with
)

// headerReceived gives a large body the time that it needs, and makes room for it.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if n := h.ContentLength(); n > slowest {
		c.ReadTimeout = readTimeout + time.Duration(n)*time.Second/slowest
	}
	if n := s.bodies.claimed(h); n > 0 && !s.bodies.take(h, s.auth.bodySender(h), n, max(readTimeout, c.ReadTimeout)) {
		s.turned.bodies.Add(1)
		c.MaxRequestBodySize = 1 // smaller than the body, so that malformed is called
	}
	return c
}

// expect answers a client that asks whether it may send its body (Expect: 100-continue).
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if ctx.Request.Header.ContentLength() <= s.cfg.MaxBody {
		return fasthttp.StatusContinue
	}
	mark(ctx, s.node)
	failJSON(ctx, s.bodyTooLarge())
	linger(ctx)
	return fasthttp.StatusRequestEntityTooLarge
}

func (s *Server) bodyTooLarge() error {
	return newError(fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("ERR the body is too large; at most %d bytes are possible", s.cfg.MaxBody))
}

// proper rejects requests that the HTTP server accepts although two parsers could read them in two
// ways (request smuggling), or although no sound client sends them (RFC 9112, sections 2.2, 3.2,
// 5.2 and 6.1). The caller closes the connection.
func proper(ctx *fasthttp.RequestCtx) error {
	h := &ctx.Request.Header
	switch version := h.Protocol(); {
	case string(version) == "HTTP/1.1":
		if len(h.Host()) == 0 {
			return badRequest("ERR the request has no Host")
		}
	case string(version) != "HTTP/1.0":
		return newError(fasthttp.StatusHTTPVersionNotSupported, "ERR HTTP/1.1 and HTTP/1.0 are possible")
	}

	raw := h.RawHeaders()
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if i == 0 || rest[i-1] != '\r' {
			return badRequest("ERR a line of the header ends without a carriage return")
		}
		if i+1 < len(rest) && (rest[i+1] == ' ' || rest[i+1] == '\t') {
			return badRequest("ERR a line of the header is folded")
		}
		if blank := bytes.IndexByte(rest[:i], ' '); blank >= 0 && bytes.IndexByte(rest[:blank], ':') < 0 {
			return badRequest("ERR a name in the header has a blank")
		}
		rest = rest[i+1:]
	}
	// fasthttp marks a request that has both to be closed.
	if h.ConnectionClose() && field(raw, "content-length") && field(raw, "transfer-encoding") {
		return badRequest("ERR the request has both Content-Length and Transfer-Encoding")
	}
	if bytes.IndexByte(h.RequestURI(), '#') >= 0 {
		return badRequest("ERR the URL has a fragment; the character # itself is %23")
	}
	// A request to a proxy has a host in its URL, too. A guard in front that looked at one of the
	// two would not see the other (RFC 9112, section 3.2.2).
	if uri := h.RequestURI(); len(uri) > 0 && uri[0] != '/' && bytes.Contains(uri, []byte("://")) && !sameOrigin(uri, h.Host()) {
		return badRequest("ERR the URL names another host than the Host header")
	}
	return nil
}

// malformed answers a request that could not be read. Its connection closes.
func (s *Server) malformed(ctx *fasthttp.RequestCtx, err error) {
	mark(ctx, s.node)
	room := s.bodies.release(&ctx.Request.Header) // the header is known by its address; its content may be gone
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		err = newError(fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("ERR the request line and header are too large; at most %d bytes are possible, key and value escaped", maxHeader))
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		err = s.bodyTooLarge()
		if !room {
			err = newError(fasthttp.StatusServiceUnavailable, "ERR too many large bodies are on their way; this request was not executed")
		}
	case errors.As(err, &network) && network.Timeout():
		err = newError(fasthttp.StatusRequestTimeout, "ERR the request took too long to arrive")
	default:
		err = badRequest("ERR the request is not valid HTTP")
	}
	failJSON(ctx, err)
	ctx.SetConnectionClose()
	s.metrics.count(classNumber("none"), 0, statusNumber(ctx.Response.StatusCode()))
	linger(ctx)
}

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
	doing   atomic.Int32 // of type doing
	since   atomic.Int64 // when it began that, by the table's clock
}

// newConn returns a connection for the HTTP server: see newLazy.
func newConn(c net.Conn, early []byte, home *engine, stay int32) net.Conn {
	made := &conn{Conn: newLazy(c, early, home, stay)}
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
		if l, ok := c.Conn.(*lazyConn); ok && (state == fasthttp.StateActive || state == fasthttp.StateIdle) {
			l.between = state == fasthttp.StateIdle
		}
	}
}

// Linger has the connection wait, when it is closed, until its client has closed, too.
func (c *conn) Linger() { c.lingers.Store(true) }

// linger has the request's connection linger.
func linger(ctx *fasthttp.RequestCtx) {
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
	if c.lingers.CompareAndSwap(true, false) && doing(c.doing.Load()) != yielding {
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
