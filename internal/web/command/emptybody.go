package command

import (
	"context"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/httpfast"
)

// An empty body that was sent is an empty value: curl -T sends a file as it is, even an empty one.
// But HTTP clients send an empty body with every POST that has none (POST /incr/n), and INCR takes
// no such argument. So an empty body is an argument only where the command in the path lacks one.

// commandInPath reads a command from the path, the query and the body.
func (h *Handler) commandInPath(ctx *fasthttp.RequestCtx, a *Arguments) error {
	takesBody := ctx.IsPost() || ctx.IsPut()
	var body []byte
	if takesBody {
		body = ctx.Request.Body()
	}
	words, err := a.ReadPath(ctx.URI().PathOriginal(), ctx.URI().QueryString(), body)
	if err != nil || !takesBody || len(body) > 0 || !bodySent(&ctx.Request.Header) {
		return err
	}
	cmd := a.Commands()[0]
	spec, err := h.Store.Spec(context.Background(), cmd)
	if err == nil {
		a.AddEmptyBody(spec, cmd, words)
	}
	return err
}

// bodySent reports whether a request has a body, even an empty one.
func bodySent(h *fasthttp.RequestHeader) bool {
	raw := h.RawHeaders()
	return httpfast.HasField(raw, "content-length") || httpfast.HasField(raw, "transfer-encoding")
}

// AddEmptyBody adds an empty argument behind the words of the path, if the command lacks one. spec is
// what Redis says about the command, or nil when Redis has no such command.
func (a *Arguments) AddEmptyBody(spec *redis.Spec, cmd redis.Command, inPath int) {
	if spec == nil || !lacksValue(spec, cmd, inPath) {
		return
	}
	// An empty key is a mistake: the path lacks more than a value then.
	keys, _ := spec.Keys(slices.Insert(slices.Clone(cmd), inPath, ""))
	if !slices.Contains(keys, "") {
		a.ends = slices.Insert(a.ends, inPath, a.ends[inPath-1])
		a.args[0]++
	}
}

// lacksValue reports whether a command lacks an argument. inPath is how many of its words are in
// the path; the others are in the query.
func lacksValue(spec *redis.Spec, cmd redis.Command, inPath int) bool {
	if least := max(spec.Arity, -spec.Arity); len(cmd) < least {
		return true
	}
	switch spec.Name {
	case "set": // KEY in the path and options in the query
		return inPath == 2 && slices.Contains(setOptions, strings.ToLower(cmd[2]))
	case "mset", "msetnx": // pairs
		return len(cmd)%2 == 0
	case "hset", "hmset": // KEY and pairs
		return len(cmd)%2 == 1
	case "zadd": // KEY, flags and pairs
		return len(withoutFlags(cmd[2:], "nx", "xx", "gt", "lt", "ch", "incr"))%2 == 1
	case "geoadd": // KEY, flags and triples
		return len(withoutFlags(cmd[2:], "nx", "xx", "ch"))%3 == 2
	case "xadd": // KEY, options, ID and pairs
		rest := withoutTrimming(withoutFlags(cmd[2:], "nomkstream"))
		return len(rest) > 0 && len(rest)%2 == 0
	}
	return false
}

// withoutFlags returns words without the flags at their beginning.
func withoutFlags(words []string, flags ...string) []string {
	for len(words) > 0 && slices.Contains(flags, strings.ToLower(words[0])) {
		words = words[1:]
	}
	return words
}

// withoutTrimming returns words without XADD's options to trim the stream at their beginning:
// MAXLEN or MINID, perhaps = or ~, a threshold, and perhaps LIMIT and a number.
func withoutTrimming(words []string) []string {
	rest := withoutFlags(words, "maxlen", "minid")
	if len(rest) == len(words) {
		return words
	}
	rest = withoutFlags(rest, "=", "~")
	rest = rest[min(1, len(rest)):]
	if behind := withoutFlags(rest, "limit"); len(behind) < len(rest) {
		rest = behind[min(1, len(behind)):]
	}
	return rest
}

// setOptions are those of SET.
var setOptions = []string{"ex", "px", "exat", "pxat", "keepttl", "nx", "xx", "get"}
