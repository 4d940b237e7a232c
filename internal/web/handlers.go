package web

import (
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
)

// handler serves the requests of a route whose method is allowed there. who is nil where no token is
// asked for. It returns the name of the command that counts the request in the metrics; empty: the
// route's class does.
type handler func(ctx *fasthttp.RequestCtx, who *token.Rights) (command string)

// routeHandlers returns the handler of each line of routes.Table that has one, by its path.
func (s *Server) routeHandlers() map[string]handler {
	open := func(serve func(*fasthttp.RequestCtx)) handler {
		return func(ctx *fasthttp.RequestCtx, _ *token.Rights) string { serve(ctx); return "" }
	}
	plain := func(serve func(*fasthttp.RequestCtx, *token.Rights)) handler {
		return func(ctx *fasthttp.RequestCtx, who *token.Rights) string { serve(ctx, who); return "" }
	}
	either := func(serve func(*fasthttp.RequestCtx, *token.Rights, bool), which bool) handler {
		return func(ctx *fasthttp.RequestCtx, who *token.Rights) string { serve(ctx, who, which); return "" }
	}
	command := func(inBody bool) handler {
		return func(ctx *fasthttp.RequestCtx, who *token.Rights) string { return s.commands.Execute(ctx, who, inBody) }
	}
	return map[string]handler{
		"/healthz/live":          open(s.health.Live),
		"/healthz/ready":         open(s.health.ServeReady),
		"/healthz/master":        open(s.health.Master),
		"/get":                   plain(s.commands.TutorialGet),
		"/set":                   plain(s.commands.TutorialSet),
		"/":                      command(true),
		"/{command}":             command(false),
		"/pipeline":              either(s.commands.Pipeline, false),
		"/multi-exec":            either(s.commands.Pipeline, true),
		"/subscribe/{channels}":  either(s.streams.Subscribe, false),
		"/psubscribe/{patterns}": either(s.streams.Subscribe, true),
		"/monitor":               plain(s.streams.Monitor),
		"/v1/keys":               plain(s.keys.ServeList),
		"/v1/keys/{key}":         plain(s.keys.ServeKey),
		"/v1/openapi.json":       open(describe),
	}
}

// numberedHandlers returns the handlers by the number of their route.
func (s *Server) numberedHandlers() []handler {
	all := make([]handler, len(routes.Table))
	of := s.routeHandlers()
	for i := range routes.Table {
		all[i] = of[routes.Table[i].Path]
	}
	return all
}

// handle serves one request of the HTTP server.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	eventloop.Serving(ctx.Conn())
	s.observer.Begin(ctx)
	response.SetCommonHeaders(ctx, s.node)
	class := "invalid"
	if err := validateRequest(ctx); err != nil {
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
	r := routes.Find(ctx.URI().PathOriginal(), len(ctx.Request.Body()) > 0)
	var who *token.Rights
	if !r.Open {
		if s.auth.AnswersOrigin(ctx) {
			return "cors"
		}
		var err error
		if who, err = s.auth.Authorize(ctx); err != nil {
			response.SendError(ctx, err)
			return "unauthorized"
		}
	}

	if err := refusal(ctx, r); err != nil {
		if r.Words == routes.PlainText {
			response.SendTextError(ctx, err)
		} else {
			response.SendError(ctx, err)
		}
		return r.Class
	}
	if command := s.handlers[r.Number](ctx, who); command != "" {
		return command
	}
	return r.Class
}

// refusal returns the error of a request that its route has no handler for, else nil: there is
// nothing at the path, or the method is not one of those that the route has.
func refusal(ctx *fasthttp.RequestCtx, r *routes.Route) error {
	method := routes.Number(ctx.Method())
	switch {
	case r.Missing != "" && r.Bad:
		return response.BadRequest(r.Missing)
	case r.Missing != "":
		return response.NewError(fasthttp.StatusNotFound, r.Missing)
	case r.Methods.Has(method):
		return nil
	case r.Hint != "" && (method == routes.Get || method == routes.Head):
		return response.BadRequest(r.Hint)
	}
	allowed := r.Methods.String()
	ctx.Response.Header.Set(fasthttp.HeaderAllow, allowed)
	words := "ERR the method is not allowed here; allowed are %s"
	if r.Words == routes.Sentence {
		words = "The method is not allowed here; allowed are %s."
	}
	return response.NewError(fasthttp.StatusMethodNotAllowed, fmt.Sprintf(words, allowed))
}
