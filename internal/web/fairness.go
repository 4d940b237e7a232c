package web

import (
	"slices"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
)

// slowSender is whose commands they are, for redis.Request.Sender: the token's name
// or, without tokens, the address that a balancer has seen. It is empty where nobody
// looks at it, since all commands are brief. A client without a balancer in front
// may invent one; nobody else reaches a node so.
func (s *Server) slowSender(ctx *fasthttp.RequestCtx, who *token.Rights, cmds []redis.Command) string {
	if who != nil {
		return who.Name
	}
	if len(cmds) > 0 && !slices.ContainsFunc(cmds, func(cmd redis.Command) bool {
		spec, err := s.store.Spec(ctx, cmd)
		return err != nil || spec == nil || !spec.BriefFor(cmd)
	}) {
		return ""
	}
	return forwardedFor(ctx)
}
