package observe

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/auth"
	"holdfast/internal/web/routes"
)

// logAccess logs a fraction of the requests. It leaves out path, query and header, because keys,
// values and tokens are in there.
func (o *Observer) logAccess(ctx *fasthttp.RequestCtx, took time.Duration, class string) {
	if o.Fraction < 1 && rand.Float64() >= o.Fraction {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("method", routes.Methods[routes.Number(ctx.Method())]),
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
	if name, ok := ctx.UserValue(auth.TokenName).(string); ok {
		attrs = append(attrs, slog.String("token", name))
	}
	if o.Tracing != nil {
		if id := o.Tracing.id(ctx); id != "" {
			attrs = append(attrs, slog.String("trace", id))
		}
	}
	o.Log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// forwardedFor returns the last 100 bytes of X-Forwarded-For. Each proxy adds the address that it
// sees at the end; a client may have invented what stands before that. It is for the log alone,
// since only a balancer in front makes it true (package plan). Shares are counted by sender
// instead.
func forwardedFor(ctx *fasthttp.RequestCtx) string {
	forwarded := bytes.Join(ctx.Request.Header.PeekAll("X-Forwarded-For"), []byte(", "))
	return string(forwarded[max(0, len(forwarded)-100):])
}

// sizeOf returns the length of a response's body in bytes; -1 for a stream.
func sizeOf(r *fasthttp.Response) int {
	if r.IsBodyStream() {
		return -1
	}
	return len(r.Body())
}
