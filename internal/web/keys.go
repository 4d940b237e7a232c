package web

import (
	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
)

// keyspace answers everything below /v1/.
func (s *Server) keyspace(ctx *fasthttp.RequestCtx, _ *token.Rights) {
	failJSON(ctx, &failure{fasthttp.StatusNotFound, "There is nothing here."})
}
