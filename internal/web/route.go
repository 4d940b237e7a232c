package web

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// handle answers one request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	s.begin(ctx)
	s.mark(ctx)
	class := s.route(ctx)
	s.observe(ctx, began, class)
}

// route finds who answers a request, and answers its class (see observe).
func (s *Server) route(ctx *fasthttp.RequestCtx) (class string) {
	path := ctx.URI().PathOriginal()
	if rest, ok := bytes.CutPrefix(path, []byte("/healthz/")); ok {
		return s.health(ctx, string(rest))
	}
	if isAdminPath(path) { // theirs is another listener; here they are no commands either
		failJSON(ctx, &failure{fasthttp.StatusNotFound, "There is nothing here."})
		return "none"
	}
	if s.cors(ctx) {
		return "cors"
	}
	who, err := s.authorize(ctx)
	if err != nil {
		failJSON(ctx, err)
		return "unauthorized"
	}
	switch string(path) {
	case "/set":
		if allow(ctx, "GET", "POST") {
			s.set(ctx, who)
		}
		return "set"
	case "/get":
		if allow(ctx, "GET", "HEAD") {
			s.get(ctx, who)
		}
		return "get"
	}
	if bytes.HasPrefix(path, []byte("/v1/")) {
		s.keyspace(ctx, who)
		return "keys"
	}
	answer(ctx, fasthttp.StatusNotFound, "There is nothing here. The routes are /set?key=K&value=V and /get?key=K.")
	return "none"
}

// allow answers whether the method is one of those; if not, the request has its
// answer. HEAD is GET without the body, but not where it would write: what only
// wants to look must not.
func allow(ctx *fasthttp.RequestCtx, methods ...string) bool {
	if slices.Contains(methods, string(ctx.Method())) {
		return true
	}
	all := strings.Join(methods, ", ")
	ctx.Response.Header.Set("Allow", all)
	answer(ctx, fasthttp.StatusMethodNotAllowed, "The method is not allowed here; allowed are "+all+".")
	return false
}

// mark sets what every answer carries. Values are the clients' own bytes: no
// browser may take them for anything but what we say they are.
func (s *Server) mark(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if s.cfg.Node != "" {
		h.Set("Holdfast-Node", s.cfg.Node)
	}
}

// malformed answers a request that could not be read; its connection closes.
func (s *Server) malformed(ctx *fasthttp.RequestCtx, err error) {
	s.mark(ctx)
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		answer(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The request line and header are too large; at most %d bytes are possible, key and value escaped.", maxHeader))
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		answer(ctx, fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("The body is too large; at most %d bytes are possible.", s.cfg.MaxBody))
	case errors.As(err, &network) && network.Timeout():
		answer(ctx, fasthttp.StatusRequestTimeout, "The request took too long to arrive.")
	default:
		answer(ctx, fasthttp.StatusBadRequest, "The request is not valid HTTP.")
	}
	ctx.SetConnectionClose()
	s.metrics.count(classNumber("none"), 0, statusNumber(ctx.Response.StatusCode()))
}
