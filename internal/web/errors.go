package web

import (
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
)

// failure is a request that this package itself turns down.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

func badRequest(text string) error { return &failure{fasthttp.StatusBadRequest, text} }

// retryAfter is the Retry-After of a 503, in seconds.
const retryAfter = 1

// fail answers a request with its error. It is the one place where errors
// become statuses.
func fail(ctx *fasthttp.RequestCtx, err error) {
	status, text := fasthttp.StatusInternalServerError, "the request failed: "+err.Error()
	var f *failure
	if errors.As(err, &f) {
		status, text = f.status, f.text
	}
	switch redis.KindOf(err) {
	case redis.NotExecuted:
		status, text = fasthttp.StatusServiceUnavailable, "Redis did not take the request in time; it was not executed."
	case redis.Overloaded:
		status, text = fasthttp.StatusServiceUnavailable, "Too many requests wait for Redis; this one was not executed."
	case redis.Unknown:
		status, text = fasthttp.StatusGatewayTimeout, "The outcome is unknown: the write was sent to Redis but not confirmed in time. It may or may not have happened. To be able to repeat a write safely, send an Idempotency-Key header."
	case redis.Invalid:
		status, text = fasthttp.StatusBadRequest, err.Error()
	case redis.Refused:
		status, text = fasthttp.StatusConflict, err.Error()
	}
	if status == fasthttp.StatusServiceUnavailable {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	answer(ctx, status, text)
}

// answer sends a text of ours.
func answer(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType(textPlain)
	ctx.SetBodyString(text)
}
