package response

import (
	"errors"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/httpfast"
)

// Error is the error of a request that this package itself refuses.
type Error struct {
	status int
	text   string
}

func (f *Error) Error() string { return f.text }

// NewError returns the error of a request that this node refuses with that status.
func NewError(status int, text string) error { return &Error{status, text} }

// BadRequest returns the error of a request that is wrong: a 400.
func BadRequest(text string) error { return NewError(fasthttp.StatusBadRequest, text) }

// retryAfter is the Retry-After of a 503 and a 429, in seconds.
const retryAfter = 1

// Outcome returns the status and the text for the error of a request. It is the one place where
// errors become statuses.
func Outcome(err error) (status int, text string) {
	var f *Error
	if errors.As(err, &f) {
		return f.status, f.text
	}
	switch redis.KindOf(err) {
	case redis.NotExecuted:
		return fasthttp.StatusServiceUnavailable, "Redis did not take the request in time; it was not executed."
	case redis.GivenUp:
		return fasthttp.StatusGatewayTimeout, "Redis was given the command and did not answer in time. It only reads: nothing was changed. It is not tried again, because it may be what keeps Redis from answering."
	case redis.TooLong:
		return fasthttp.StatusRequestEntityTooLarge, "ERR " + err.Error() + " (limits.answer, --max-answer). Nothing was changed. Ask for it in parts: GETRANGE, HSCAN, SSCAN, ZSCAN, LRANGE, ZRANGE and XRANGE give a part of a value; fewer commands in one request give less, too."
	case redis.Crowded:
		return fasthttp.StatusServiceUnavailable, "ERR too many long answers are on their way to clients, so that there was no room for this one. Nothing was changed."
	case redis.Withheld:
		return fasthttp.StatusRequestEntityTooLarge, "ERR the command was carried out, but its answer is not given: " + strings.TrimPrefix(err.Error(), "carried out, and its answer is not given: ") + ". Do not send it again; read what is there with other commands."
	case redis.Overloaded:
		return fasthttp.StatusServiceUnavailable, "Too many requests wait for Redis; this one was not executed."
	case redis.Unknown:
		return fasthttp.StatusGatewayTimeout, "The outcome is unknown: the write was sent to Redis but not confirmed in time. It may or may not have happened. To be able to repeat a write safely, send an Idempotency-Key header."
	case redis.Invalid:
		return fasthttp.StatusBadRequest, err.Error()
	case redis.Refused:
		if errors.Is(err, redis.ErrCursorGone) {
			return fasthttp.StatusGone, redis.Words(err)
		}
		if words := redis.Words(err); words != "" {
			return fasthttp.StatusBadRequest, words
		}
		return fasthttp.StatusBadRequest, err.Error()
	}
	return fasthttp.StatusInternalServerError, "the request failed: " + err.Error()
}

// SendTextError sends an error in plain text, as the tutorial's routes do.
func SendTextError(ctx *fasthttp.RequestCtx, err error) {
	status, text := Outcome(err)
	if redis.KindOf(err) == redis.Refused { // Redis' words say little to somebody who does not see Redis
		status, text = fasthttp.StatusConflict, err.Error()
	}
	retryLater(ctx, status)
	SendText(ctx, status, text)
}

// SendError sends an error as {"error":"words"}.
func SendError(ctx *fasthttp.RequestCtx, err error) {
	status, text := Outcome(err)
	retryLater(ctx, status)
	ctx.SetStatusCode(status)
	ctx.SetContentType(httpfast.JSON)
	ctx.SetBody(appendError(nil, text))
}

// retryLater sets Retry-After where the status calls for it.
func retryLater(ctx *fasthttp.RequestCtx, status int) {
	if status == fasthttp.StatusServiceUnavailable || status == fasthttp.StatusTooManyRequests {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
}

// SendText sends a text of this node.
func SendText(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType(httpfast.TextPlain)
	ctx.SetBodyString(text)
}
