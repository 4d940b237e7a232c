package consistency

import (
	"context"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
)

// This file has the rules for the headers that make a write happen once: which of them counts, and
// when they mean nothing.

// The headers that make a write happen once: the client's own, for its repetitions, and the
// balancers', for theirs.
const (
	IdempotencyHeader = "Idempotency-Key"
	AttemptHeader     = "Holdfast-Attempt"
)

// ReceivedHeader is when a balancer got a write, in seconds since 1970. maxAge is how old a write
// may be when it comes here. A balancer sends a write to another node when this one hangs; the
// write may still wait in this node's socket when the node wakes up. By then the record that makes
// the two count as one may be gone (redis.Config.IdempotencyTTL, which is longer than maxAge plus
// the time that a write is held), and newer values may be stored. The hosts' clocks may differ by
// seconds, not more.
const (
	ReceivedHeader = "Holdfast-Received"
	maxAge         = 20 * time.Second
)

// MaxIdempotencyKey bounds the characters of an idempotency key.
const MaxIdempotencyKey = 255

// DropBalancerHeaders takes the balancers' headers off a request that only reads. They mean nothing
// for it, because it may be carried out twice. Malformed ones stay, and are refused by Rules.Apply.
func DropBalancerHeaders(w *httpfast.Options) {
	if balancerHeadersValid(w) {
		w.Attempts, w.Received = 0, nil
	}
}

// balancerHeadersValid reports whether the balancers' headers are well-formed or absent.
func balancerHeadersValid(w *httpfast.Options) bool {
	if w.Attempts > 0 && !validKey(w.Attempt, w.Attempts) {
		return false
	}
	if len(w.Received) == 0 {
		return true
	}
	_, ok := receivedAt(w.Received)
	return ok
}

// receivedAt returns the time that a balancer has given, in seconds since 1970. It reports false if
// that is not a time.
func receivedAt(text []byte) (seconds int64, ok bool) {
	if len(text) == 0 || len(text) >= len("9223372036854775807") {
		return 0, false
	}
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		seconds = seconds*10 + int64(digit-'0')
	}
	return seconds, true
}

// idempotencyKey returns the key that makes repeating the request safe; empty when there is none.
// It is the client's, else the balancer's, which never equals a client's.
func idempotencyKey(w *httpfast.Options) (string, error) {
	switch {
	case w.IdempotencyKeys > 0:
		return keyOf(IdempotencyHeader, w.IdempotencyKey, w.IdempotencyKeys)
	case w.Attempts > 0:
		key, err := keyOf(AttemptHeader, w.Attempt, w.Attempts)
		return "\n" + key, err
	}
	return "", nil
}

// validKey reports whether a key that makes a write happen once is valid.
func validKey(key []byte, times int) bool {
	for _, c := range key {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return times == 1 && len(key) > 0 && len(key) <= MaxIdempotencyKey
}

// keyOf returns the key that a header has, or the error of one that is not valid.
func keyOf(header string, key []byte, times int) (string, error) {
	if !validKey(key, times) {
		return "", response.BadRequest(fmt.Sprintf("The %s has to be given once, and be 1 to %d printable ASCII characters.", header, MaxIdempotencyKey))
	}
	return string(key), nil
}

// checkAge refuses a write that a balancer got too long ago.
func (c *Rules) checkAge(received []byte, r *redis.Request) error {
	if len(received) == 0 {
		return nil
	}
	seconds, ok := receivedAt(received)
	if !ok {
		return response.BadRequest(ReceivedHeader + " is for balancers: the time in seconds since 1970.")
	}
	if time.Since(time.Unix(seconds, 0)) <= maxAge {
		return nil
	}
	if r.Script != nil {
		return errTooLate
	}
	for _, cmd := range r.Commands {
		spec, err := c.specs.Spec(context.Background(), cmd)
		if err != nil {
			return err
		}
		if spec != nil && spec.Write {
			return errTooLate
		}
	}
	return nil
}

var errTooLate = response.NewError(fasthttp.StatusGatewayTimeout, "The outcome is unknown: the write came to this node too late to be tried again, and an earlier try may have happened.")
