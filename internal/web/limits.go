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

// Limits of a request. The source's routes have the value in the query, so the
// header's limit is the value's there.
const (
	maxHeader = 128 << 10 // bytes of request line and header fields together
	maxIdem   = 255       // characters of an idempotency key
)

// Time limits of a connection. The idle one is longer than HAProxy keeps an
// idle connection to a server (pool-purge-delay, 5 s; HAProxy manual, section
// 4.2), so that HAProxy closes first and no request meets a closing one.
const (
	readTimeout  = 10 * time.Second // for a whole request, and more for a large one
	writeTimeout = 30 * time.Second
	idleTimeout  = 75 * time.Second
	lingerTime   = 5 * time.Second
	firstTimeout = 5 * time.Second // for a first request that has yet to come when the server ends; the HTTP server has the same
	slowest      = 128 << 10       // bytes a second that a large body has to come with
)

// headerReceived gives a large body the time that it needs, and room.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if n := h.ContentLength(); n > slowest {
		c.ReadTimeout = readTimeout + time.Duration(n)*time.Second/slowest
	}
	if n := s.claimed(h); n > 0 && !s.bodies.take(h, s.bodySender(h), n, max(readTimeout, c.ReadTimeout)) {
		s.engine.turned.bodies.Add(1)
		c.MaxRequestBodySize = 1 // it is too large now: see malformed
	}
	return c
}

// expect answers a client that asks before it sends its body (Expect:
// 100-continue).
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if ctx.Request.Header.ContentLength() <= s.cfg.MaxBody {
		return fasthttp.StatusContinue
	}
	s.mark(ctx)
	failJSON(ctx, s.bodyTooLarge())
	linger(ctx)
	return fasthttp.StatusRequestEntityTooLarge
}

func (s *Server) bodyTooLarge() error {
	return &failure{fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("ERR the body is too large; at most %d bytes are possible", s.cfg.MaxBody)}
}

// proper turns down what the server's parser lets through although two parsers
// could read it in two ways, or no client that is well sends it (RFC 9112,
// sections 2.2, 3.2, 5.2 and 6.1). Its connection is closed.
func proper(ctx *fasthttp.RequestCtx) error {
	h := &ctx.Request.Header
	switch version := h.Protocol(); {
	case string(version) == "HTTP/1.1":
		if len(h.Host()) == 0 {
			return badRequest("ERR the request has no Host")
		}
	case string(version) != "HTTP/1.0":
		return &failure{fasthttp.StatusHTTPVersionNotSupported, "ERR HTTP/1.1 and HTTP/1.0 are possible"}
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
	// The parser marks such a request to be closed.
	if h.ConnectionClose() && field(raw, "content-length") && field(raw, "transfer-encoding") {
		return badRequest("ERR the request has both Content-Length and Transfer-Encoding")
	}
	if bytes.IndexByte(h.RequestURI(), '#') >= 0 {
		return badRequest("ERR the URL has a fragment; the character # itself is %23")
	}
	// What a proxy is asked for has a host in the URL, too: a guard that looked at
	// one would not see the other (RFC 9112, section 3.2.2).
	if uri := h.RequestURI(); len(uri) > 0 && uri[0] != '/' && bytes.Contains(uri, []byte("://")) && !sameOrigin(uri, h.Host()) {
		return badRequest("ERR the URL names another host than the Host header")
	}
	return nil
}

// field says whether a header of that name, in lower case, is there.
func field(raw []byte, name string) bool {
	for line := range bytes.Lines(raw) {
		if len(line) > len(name) && line[len(name)] == ':' && string(bytes.ToLower(line[:len(name)])) == name {
			return true
		}
	}
	return false
}

// malformed answers a request that could not be read; its connection closes.
func (s *Server) malformed(ctx *fasthttp.RequestCtx, err error) {
	s.mark(ctx)
	room := s.bodies.release(&ctx.Request.Header) // the header itself may be gone
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		err = &failure{fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("ERR the request line and header are too large; at most %d bytes are possible, key and value escaped", maxHeader)}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		err = s.bodyTooLarge()
		if !room {
			err = &failure{fasthttp.StatusServiceUnavailable, "ERR too many large bodies are on their way; this request was not executed"}
		}
	case errors.As(err, &network) && network.Timeout():
		err = &failure{fasthttp.StatusRequestTimeout, "ERR the request took too long to arrive"}
	default:
		err = badRequest("ERR the request is not valid HTTP")
	}
	failJSON(ctx, err)
	ctx.SetConnectionClose()
	s.metrics.count(classNumber("none"), 0, statusNumber(ctx.Response.StatusCode()))
	linger(ctx)
}

// listener makes connections for the HTTP server.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, nil, nil, 0), nil
}

// conn is a connection that may be closed while its client still sends. Closed
// outright the kernel would answer that with a reset, which can take the answer
// away before the client has read it (RFC 9112, section 9.6).
type conn struct {
	net.Conn
	lingers atomic.Bool
	table   *connTable   // nil: the connection is not closed for want of room
	doing   atomic.Int32 // a doing
	since   atomic.Int64 // when it began to do that, by the table's clock
}

// newConn makes a connection for the HTTP server: see newLazy.
func newConn(c net.Conn, early []byte, home *engine, stay int32) net.Conn {
	made := &conn{Conn: newLazy(c, early, home, stay)}
	if home != nil && home.table != nil {
		made.table = home.table
		made.since.Store(int64(home.table.clock()))
		home.table.enter(made)
	}
	return made
}

// between keeps whether a connection is between two requests. It is
// fasthttp.Server.ConnState, which the connection's reader calls.
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

// linger has the request's connection wait at its end for the client's.
func linger(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*conn); ok {
		c.lingers.Store(true)
	}
}

// Close closes the connection; if it lingers, its sending half first, and the
// rest when the client has closed or lingerTime has passed.
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
