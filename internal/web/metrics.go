package web

import (
	"time"

	"github.com/valyala/fasthttp"
)

// observe is told of every request when it has been answered; of a stream of
// events, when it begins. class says what was asked for: a command's name in
// lower case, or a route such as "pipeline" or "keys".
func (s *Server) observe(_ *fasthttp.RequestCtx, _ time.Time, _ string) {}
