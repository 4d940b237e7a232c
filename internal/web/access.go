package web

import (
	"context"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
)

// authorize answers whose request it is: nil when no tokens are configured and
// everybody may do everything.
func (s *Server) authorize(_ *fasthttp.RequestCtx) (*token.Rights, error) { return nil, nil }

// permit answers nil when each of the commands is allowed.
func (s *Server) permit(_ context.Context, _ *token.Rights, _ []redis.Command) error { return nil }
