package web

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
)

// health answers the three questions about a node: is the process there, can it serve, is there a
// master.
func (s *Server) health(ctx *fasthttp.RequestCtx, question string) (class string) {
	handler := map[string]func(*fasthttp.RequestCtx){"live": s.live, "ready": s.ready, "master": s.master}[question]
	if handler == nil {
		answer(ctx, fasthttp.StatusNotFound, "There is nothing here; there are /healthz/live, /healthz/ready and /healthz/master.")
	} else if question == "master" && !s.auth.answersTo(ctx.Request.Header.Host()) {
		failJSON(ctx, s.auth.otherHost())
	} else if allow(ctx, getHead...) {
		s.respond(ctx) // a stack's file may name any of them in health.path
		handler(ctx)
	}
	return "healthz"
}

// live: the process is there.
func (s *Server) live(ctx *fasthttp.RequestCtx) { answer(ctx, fasthttp.StatusOK, "live") }

// ready: the node can serve. The loss of the master does not make it unready, since every node has
// to wait for the failover alike. It becomes unready when this node alone is cut off, or is about
// to end.
func (s *Server) ready(ctx *fasthttp.RequestCtx) {
	st := s.store.Status()
	switch {
	case s.draining.Load():
		answer(ctx, fasthttp.StatusServiceUnavailable, "not ready: the node is about to end")
	case !st.Found:
		answer(ctx, fasthttp.StatusServiceUnavailable, "not ready: no Redis master was found yet: "+st.Why)
	case time.Since(st.Heard) > reachGrace:
		answer(ctx, fasthttp.StatusServiceUnavailable, fmt.Sprintf("not ready: neither a Redis node nor a Sentinel has answered for %v", time.Since(st.Heard).Round(time.Second)))
	default:
		answer(ctx, fasthttp.StatusOK, "ready")
	}
}

// maxChallenge is how many bytes a challenge may have; a balancer's is a UUID.
const maxChallenge = 64

// respond proves to a balancer's health check that this is a node of its stack. A request that came
// through a balancer has sourceHeader and is a client's: it gets no response to a challenge, so
// nobody learns one through the entry.
func (s *Server) respond(ctx *fasthttp.RequestCtx) {
	challenge := ctx.Request.Header.Peek(token.ChallengeHeader)
	through := len(ctx.Request.Header.Peek(sourceHeader)) > 0
	if s.cfg.SourceSecret == "" || len(challenge) == 0 || len(challenge) > maxChallenge || through {
		return
	}
	ctx.Response.Header.Set(token.ResponseHeader, token.Response(s.cfg.SourceSecret, string(challenge)))
}

// master tells what the node depends on. 200: there is a master now.
func (s *Server) master(ctx *fasthttp.RequestCtx) {
	st := s.store.Status()
	body, err := json.Marshal(st)
	if err != nil {
		fail(ctx, err)
		return
	}
	if st.Master == "" {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(append(body, '\n'))
}
