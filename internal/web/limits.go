package web

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/auth"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/observe"
	"holdfast/internal/web/response"
)

// slowest is how many bytes a second a large body has to come with.
const slowest = 128 << 10

// headerReceived gives a large body the time that it needs, and makes room for it.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if n := h.ContentLength(); n > slowest {
		c.ReadTimeout = httpfast.ReadTimeout + time.Duration(n)*time.Second/slowest
	}
	if n := s.bodies.Claimed(h); n > 0 && !s.bodies.Take(h, s.auth.BodySender(h), n, max(httpfast.ReadTimeout, c.ReadTimeout)) {
		s.turned.Bodies.Add(1)
		c.MaxRequestBodySize = 1 // smaller than the body, so that malformed is called
	}
	return c
}

// expect answers a client that asks whether it may send its body (Expect: 100-continue).
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if ctx.Request.Header.ContentLength() <= s.cfg.MaxBody {
		return fasthttp.StatusContinue
	}
	response.SetCommonHeaders(ctx, s.node)
	response.SendError(ctx, s.bodyTooLarge())
	eventloop.Linger(ctx)
	return fasthttp.StatusRequestEntityTooLarge
}

func (s *Server) bodyTooLarge() error {
	return response.NewError(fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("ERR the body is too large; at most %d bytes are possible", s.cfg.MaxBody))
}

// validateRequest returns an error for requests that the HTTP server accepts although two parsers
// could read them in two ways (request smuggling), or although no sound client sends them (RFC 9112,
// sections 2.2, 3.2, 5.2 and 6.1). The caller closes the connection. An event loop needs no such
// check: httpfast.Request.Parse takes none of these requests.
func validateRequest(ctx *fasthttp.RequestCtx) error {
	h := &ctx.Request.Header
	switch version := h.Protocol(); {
	case string(version) == "HTTP/1.1":
		if len(h.Host()) == 0 {
			return response.BadRequest("ERR the request has no Host")
		}
	case string(version) != "HTTP/1.0":
		return response.NewError(fasthttp.StatusHTTPVersionNotSupported, "ERR HTTP/1.1 and HTTP/1.0 are possible")
	}

	raw := h.RawHeaders()
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if i == 0 || rest[i-1] != '\r' {
			return response.BadRequest("ERR a line of the header ends without a carriage return")
		}
		if i+1 < len(rest) && (rest[i+1] == ' ' || rest[i+1] == '\t') {
			return response.BadRequest("ERR a line of the header is folded")
		}
		if blank := bytes.IndexByte(rest[:i], ' '); blank >= 0 && bytes.IndexByte(rest[:blank], ':') < 0 {
			return response.BadRequest("ERR a name in the header has a blank")
		}
		rest = rest[i+1:]
	}
	// fasthttp marks a request that has both to be closed.
	if h.ConnectionClose() && httpfast.HasField(raw, "content-length") && httpfast.HasField(raw, "transfer-encoding") {
		return response.BadRequest("ERR the request has both Content-Length and Transfer-Encoding")
	}
	if bytes.IndexByte(h.RequestURI(), '#') >= 0 {
		return response.BadRequest("ERR the URL has a fragment; the character # itself is %23")
	}
	// A request to a proxy has a host in its URL, too. A guard in front that looked at one of the
	// two would not see the other (RFC 9112, section 3.2.2).
	if uri := h.RequestURI(); len(uri) > 0 && uri[0] != '/' && bytes.Contains(uri, []byte("://")) && !auth.SameOrigin(uri, h.Host()) {
		return response.BadRequest("ERR the URL names another host than the Host header")
	}
	return nil
}

// malformed answers a request that could not be read. Its connection closes.
func (s *Server) malformed(ctx *fasthttp.RequestCtx, err error) {
	response.SetCommonHeaders(ctx, s.node)
	room := s.bodies.Release(&ctx.Request.Header) // the header is known by its address; its content may be gone
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		err = response.NewError(fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("ERR the request line and header are too large; at most %d bytes are possible, key and value escaped", httpfast.MaxHeader))
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		err = s.bodyTooLarge()
		if !room {
			err = response.NewError(fasthttp.StatusServiceUnavailable, "ERR too many large bodies are on their way; this request was not executed")
		}
	case errors.As(err, &network) && network.Timeout():
		err = response.NewError(fasthttp.StatusRequestTimeout, "ERR the request took too long to arrive")
	default:
		err = response.BadRequest("ERR the request is not valid HTTP")
	}
	response.SendError(ctx, err)
	ctx.SetConnectionClose()
	s.metrics.Count(observe.ClassNumber("none"), 0, observe.StatusNumber(ctx.Response.StatusCode()))
	eventloop.Linger(ctx)
}
