package observe

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/response"
)

// ReachGrace is how long a node stays ready that reaches neither a Redis node nor a Sentinel. A
// failover is shorter than this and leaves most of them reachable. So a node that reaches none of
// them for this long is cut off itself, and its peers are not.
const ReachGrace = 3 * time.Second

// Health tells how a node is.
type Health struct {
	Status   func() redis.Status // of the store; it asks nobody
	Draining func() bool         // the node is about to end
	Secret   string              // Config.SourceSecret
	Auth     *auth.Authorizer
}

// Ready reports whether the node would tell a balancer that it is ready: see ready.
func (h *Health) Ready() bool {
	st := h.Status()
	return !h.Draining() && st.Found && time.Since(st.Heard) <= ReachGrace
}

// Live serves /healthz/live: the process is there.
func (h *Health) Live(ctx *fasthttp.RequestCtx) {
	h.respond(ctx)
	response.SendText(ctx, fasthttp.StatusOK, "live")
}

// ServeReady serves /healthz/ready: the node can serve. The loss of the master does not make it
// unready, since every node has to wait for the failover alike. It becomes unready when this node
// alone is cut off, or is about to end.
func (h *Health) ServeReady(ctx *fasthttp.RequestCtx) {
	h.respond(ctx)
	st := h.Status()
	switch {
	case h.Draining():
		response.SendText(ctx, fasthttp.StatusServiceUnavailable, "not ready: the node is about to end")
	case !st.Found:
		response.SendText(ctx, fasthttp.StatusServiceUnavailable, "not ready: no Redis master was found yet: "+st.Why)
	case time.Since(st.Heard) > ReachGrace:
		response.SendText(ctx, fasthttp.StatusServiceUnavailable, fmt.Sprintf("not ready: neither a Redis node nor a Sentinel has answered for %v", time.Since(st.Heard).Round(time.Second)))
	default:
		response.SendText(ctx, fasthttp.StatusOK, "ready")
	}
}

// maxChallenge is how many bytes a challenge may have; a balancer's is a UUID.
const maxChallenge = 64

// respond proves to a balancer's health check that this is a node of its stack. A stack's file may
// name any of the three paths in health.path. A request that came
// through a balancer has fair.SourceHeader and is a client's: it gets no response to a challenge, so
// nobody learns one through the entry.
func (h *Health) respond(ctx *fasthttp.RequestCtx) {
	challenge := ctx.Request.Header.Peek(token.ChallengeHeader)
	through := len(ctx.Request.Header.Peek(fair.SourceHeader)) > 0
	if h.Secret == "" || len(challenge) == 0 || len(challenge) > maxChallenge || through {
		return
	}
	ctx.Response.Header.Set(token.ResponseHeader, token.Response(h.Secret, string(challenge)))
}

// Master serves /healthz/master, which tells what the node depends on. 200: there is a master now.
func (h *Health) Master(ctx *fasthttp.RequestCtx) {
	if !h.Auth.AnswersTo(ctx.Request.Header.Host()) {
		response.SendError(ctx, h.Auth.WrongHost())
		return
	}
	h.respond(ctx)
	st := h.Status()
	body, err := json.Marshal(st)
	if err != nil {
		response.SendTextError(ctx, err)
		return
	}
	if st.Master == "" {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(append(body, '\n'))
}
