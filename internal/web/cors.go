package web

import "github.com/valyala/fasthttp"

// cors sets what lets other origins' pages read the answer. It answers true
// when the request was a preflight, which is answered by that.
func (s *Server) cors(_ *fasthttp.RequestCtx) (done bool) { return false }
