package web

import (
	"bytes"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/observe"
	"holdfast/internal/web/response"
)

// handle serves one request of the HTTP server.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	does(ctx.Conn(), serves)
	s.observer.Begin(ctx)
	response.SetCommonHeaders(ctx, s.node)
	class := "invalid"
	if err := proper(ctx); err != nil {
		response.SendError(ctx, err)
		ctx.SetConnectionClose()
	} else {
		class = s.route(ctx)
	}
	if s.draining.Load() { // the HTTP server may not know it yet, or no longer
		ctx.SetConnectionClose()
	}
	if s.bodies.Claimed(&ctx.Request.Header) > 0 {
		s.bodies.Release(&ctx.Request.Header)
	}
	s.observer.End(ctx, began, class)
}

// route calls the handler of a request, and returns its class (see observe).
func (s *Server) route(ctx *fasthttp.RequestCtx) (class string) {
	path := ctx.URI().PathOriginal()
	if len(path) == 0 || path[0] != '/' {
		return nothing(ctx)
	}

	first, rest, more := bytes.Cut(path[1:], []byte("/"))
	var lower [len("psubscribe")]byte
	name := lower[:0]
	if len(first) <= len(lower) {
		for _, c := range first {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			name = append(name, c)
		}
	}

	if string(name) == "healthz" {
		return s.health.Serve(ctx, string(rest))
	}
	if observe.IsAdminPath(path) { // these are served by another listener; here they are no commands either
		return nothing(ctx)
	}
	if s.auth.AnswersOrigin(ctx) {
		return "cors"
	}

	who, err := s.auth.Authorize(ctx)
	if err != nil {
		response.SendError(ctx, err)
		return "unauthorized"
	}

	switch string(name) {
	case "":
		if len(first) > 0 {
			break // a name that is longer than all of these
		}
		if more || ctx.IsGet() || ctx.IsHead() {
			response.SendError(ctx, response.BadRequest("ERR there is no command; it goes into the path, as /set/KEY/VALUE or /get/KEY, or as a JSON array into the body of POST /"))
			return "none"
		}
		if !response.AllowMethods(ctx, response.PostPut...) {
			return "none"
		}
		return s.commands.Execute(ctx, who, true)
	case "set":
		if string(path) == "/set" && len(ctx.Request.Body()) == 0 {
			s.commands.TutorialSet(ctx, who)
			return "set"
		}
	case "get":
		if string(path) == "/get" && len(ctx.Request.Body()) == 0 {
			s.commands.TutorialGet(ctx, who)
			return "get"
		}
	case "pipeline", "multi-exec":
		if more {
			return nothing(ctx)
		}
		if response.AllowMethods(ctx, response.PostPut...) {
			s.commands.Pipeline(ctx, who, string(name) == "multi-exec")
		}
		return string(name)
	case "subscribe", "psubscribe":
		if response.AllowMethods(ctx, response.GetPost...) {
			s.streams.Subscribe(ctx, who, string(name) == "psubscribe")
		}
		return string(name)
	case "monitor":
		if more {
			return nothing(ctx)
		}
		if response.AllowMethods(ctx, response.GetPost...) {
			s.streams.Monitor(ctx, who)
		}
		return "monitor"
	case "v1":
		s.keys.Serve(ctx, who)
		return "keys"
	}

	if !response.AllowMethods(ctx, response.AnyMethod...) {
		return "none"
	}
	return s.commands.Execute(ctx, who, false)
}

// nothing sends a 404.
func nothing(ctx *fasthttp.RequestCtx) (class string) {
	response.SendError(ctx, response.NewError(fasthttp.StatusNotFound, "ERR there is nothing here"))
	return "none"
}
