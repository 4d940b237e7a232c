package web

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"
)

// userToken is under what name the name of a request's token is kept, for the
// log and for traces.
const userToken = "holdfast-token"

// logAccess writes a line about a fraction of the requests. It has neither path
// nor query nor header: keys, values and tokens are in there.
func (s *Server) logAccess(ctx *fasthttp.RequestCtx, took time.Duration, class string) {
	if s.cfg.AccessLog < 1 && rand.Float64() >= s.cfg.AccessLog {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("method", methods[methodNumber(ctx.Method())]),
		slog.String("class", class),
		slog.Int("status", ctx.Response.StatusCode()),
		slog.Int64("micros", took.Microseconds()),
		slog.Int("in", len(ctx.Request.Body())),
		slog.Int("out", sizeOf(&ctx.Response)),
		slog.String("client", ctx.RemoteAddr().String()),
	)
	if from := forwardedFor(ctx); from != "" {
		attrs = append(attrs, slog.String("forwarded", from))
	}
	if name, ok := ctx.UserValue(userToken).(string); ok {
		attrs = append(attrs, slog.String("token", name))
	}
	if s.tracing != nil {
		if id := s.tracing.id(ctx); id != "" {
			attrs = append(attrs, slog.String("trace", id))
		}
	}
	s.cfg.Access.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// forwardedFor is what X-Forwarded-For says, the last 100 bytes of it: each proxy
// adds the address that it sees at the end, and what stands before that may be
// anybody's invention. It is for the log alone, since only a balancer in front makes
// it true (package plan): see sender.
func forwardedFor(ctx *fasthttp.RequestCtx) string {
	forwarded := bytes.Join(ctx.Request.Header.PeekAll("X-Forwarded-For"), []byte(", "))
	return string(forwarded[max(0, len(forwarded)-100):])
}

// sizeOf is the length of an answer's body in bytes; of a stream, -1.
func sizeOf(r *fasthttp.Response) int {
	if r.IsBodyStream() {
		return -1
	}
	return len(r.Body())
}
