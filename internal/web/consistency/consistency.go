package consistency

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
)

// The headers by which a request says how consistent its response has to be, and by which the
// response says how consistent it is.
const (
	ReadHeader   = "Holdfast-Read"
	MaxLagHeader = "Holdfast-Max-Lag"
	writeHeader  = "Holdfast-Write"
	TokenHeader  = "Upstash-Sync-Token"
)

// The request's headers for the form of its response.
const (
	encodingHeader = "Upstash-Encoding"
	FormatHeader   = "Upstash-Response-Format"
)

// tokenMark separates the two parts of a sync token: a point in the order of writes, which is what
// counts, and the number of the response. Clients expect a token that they have not had yet, also
// where nothing was written.
const tokenMark = '~'

var tokenHeaderKey = []byte(TokenHeader)

// ReadFrom returns where a request wants to read from. It reports false for a value that is not a
// place.
func ReadFrom(w *httpfast.Options, byDefault redis.ReadFrom) (redis.ReadFrom, bool) {
	switch string(w.Read) {
	case "":
		return byDefault, true
	case "master":
		return redis.ReadMaster, true
	case "replica":
		return redis.ReadReplica, true
	case "cached":
		return redis.ReadCached, true
	}
	return 0, false
}

// IsPlainRead reports whether a read asks for nothing except where to read from.
func IsPlainRead(w *httpfast.Options) bool {
	return len(w.MaxLag)+len(w.Write)+len(w.Encoding)+len(w.Format) == 0 && w.SyncToken == nil && w.IdempotencyKeys == 0 && balancerHeadersValid(w)
}

// optionsPool keeps the memory of options.
var optionsPool = sync.Pool{New: func() any { return new(httpfast.Options) }}

// specs tells what Redis says about a command.
type specs interface {
	Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error)
}

// Rules say how consistent the response to a request is, and tell what it became. Many requests use
// them at once.
type Rules struct {
	// Read and async apply to a request that does not ask for anything else.
	Read      redis.ReadFrom
	async     bool
	specs     specs
	responses atomic.Uint64 // numbers the responses that carry a sync token
}

// New returns rules. read and async apply to a request that does not ask for anything else, and of
// tells what Redis says about commands.
func New(read redis.ReadFrom, async bool, of specs) *Rules {
	return &Rules{Read: read, async: async, specs: of}
}

// ApplyHeaders sets how a request is carried out, from its headers or else from the configuration.
// The request has its commands or script already. ApplyHeaders refuses a write that came too late.
func (c *Rules) ApplyHeaders(ctx *fasthttp.RequestCtx, who *token.Rights, r *redis.Request) error {
	w := optionsPool.Get().(*httpfast.Options)
	defer func() { *w = httpfast.Options{}; optionsPool.Put(w) }() // they are the request's memory
	w.ReadHeader(&ctx.Request.Header)
	r.WantToken = true
	return c.Apply(who, w, r)
}

// Apply is ApplyHeaders for headers that were read already. An Idempotency-Key belongs to its
// token's name: a new token of the same name (rotation) goes on with it, and a token of another
// name does not.
func (c *Rules) Apply(who *token.Rights, w *httpfast.Options, r *redis.Request) (err error) {
	ok := false
	if r.Read, ok = ReadFrom(w, c.Read); !ok {
		return response.BadRequest(ReadHeader + " is master, replica or cached.")
	}
	r.Async = c.async
	if len(w.MaxLag) > 0 {
		if r.MaxLag, err = time.ParseDuration(string(w.MaxLag)); err != nil || r.MaxLag <= 0 {
			return response.BadRequest(MaxLagHeader + " is a time longer than 0, such as 500ms or 2s.")
		}
	}
	switch string(w.Write) {
	case "":
	case "in-sync":
		r.Async = false
	case "async":
		r.Async = true
	default:
		return response.BadRequest(writeHeader + " is in-sync or async.")
	}

	r.Attempt = w.IdempotencyKeys == 0 && w.Attempts > 0
	if r.IdempotencyKey, err = idempotencyKey(w); err != nil {
		return err
	}
	if who != nil {
		r.Owner, r.ReadScripts = who.Name, who.ReadOnly
	}
	// Even an empty token means that the client keeps tokens.
	if w.SyncToken != nil {
		point, _, _ := bytes.Cut(w.SyncToken, []byte{tokenMark})
		r.After, r.WantToken = string(point), true
	}
	return c.checkAge(w.Received, r)
}

// SetResultHeaders sets the response's headers for which node was read, how old the data may be,
// and the sync token.
func (c *Rules) SetResultHeaders(ctx *fasthttp.RequestCtx, r *redis.Request) {
	h := &ctx.Response.Header
	if r.Token != "" {
		var buffer [64]byte
		h.SetCanonical(tokenHeaderKey, c.AppendToken(buffer[:0], r.Token))
	}
	switch r.From {
	case redis.ReadReplica:
		h.Set(ReadHeader, ReplicaRead(r))
	case redis.ReadCached:
		h.Set(ReadHeader, "cached")
	}
}

// AppendToken appends the sync token of a response that the point in the order of writes belongs to.
func (c *Rules) AppendToken(dst []byte, point string) []byte {
	dst = append(append(dst, point...), tokenMark)
	return strconv.AppendUint(dst, c.responses.Add(1), 36)
}

// ReplicaRead returns the value of ReadHeader for a response from a replica.
func ReplicaRead(r *redis.Request) string {
	return fmt.Sprintf("replica; node=%s; lag=%dms", r.Node, (r.Lag+time.Millisecond-1)/time.Millisecond)
}

// ResponseForm returns the form of the response that the headers ask for.
func ResponseForm(w *httpfast.Options) (f response.Form, err error) {
	switch string(w.Encoding) {
	case "":
	case "base64":
		f.Base64 = true
	default:
		return f, response.BadRequest("ERR " + encodingHeader + " can only be base64")
	}
	switch string(w.Format) {
	case "", "json":
	case "resp2":
		f.RESP2 = true
	default:
		return f, response.BadRequest("ERR " + FormatHeader + " has to be json or resp2")
	}
	if f.Base64 && f.RESP2 {
		return f, response.BadRequest("ERR " + encodingHeader + " is not possible together with " + FormatHeader + ": resp2")
	}
	return f, nil
}

// SpanContext is the key of a request's span among its user values.
const SpanContext = "holdfast-span"

// Within returns the context of what is done for a request: that of its span, when it has one. It
// never ends, because a request under way is finished.
func Within(ctx *fasthttp.RequestCtx) context.Context {
	if within, ok := ctx.UserValue(SpanContext).(context.Context); ok {
		return within
	}
	return context.Background()
}
