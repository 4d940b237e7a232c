package keyspace

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
	"holdfast/internal/web/sse"
	"holdfast/internal/web/urlquery"
)

// TTLHeader has a key's time to live, in a PUT and in the response to a GET.
const TTLHeader = "Holdfast-TTL"

// maxTTL bounds a time to live. Redis counts milliseconds from 1970 in 64 bits, and a time this
// long is a mistake.
const maxTTL = 100 * 365 * 24 * time.Hour

// maxType bounds the bytes of a Content-Type.
const maxType = 255

// Store carries out commands and tells of changes: see web.Store.
type Store interface {
	Do(ctx context.Context, r *redis.Request) error
	Changes(ctx context.Context, hear func(redis.Change)) error
}

// Config is what a keyspace needs of the node. All of it has to be set.
type Config struct {
	Store   Store
	Auth    *auth.Authorizer
	Rules   *consistency.Rules
	Senders *fair.Senders
	Places  *fair.Places
	Streams *sse.Streams
	Logger  *slog.Logger
	MaxKey  int // bytes of a key
}

// Handler serves keys as resources, their list, and those who watch them. Many requests use it at
// once.
type Handler struct {
	Config
	hub *watchHub // tells those who watch keys
}

// New returns a handler. It starts nothing.
func New(cfg Config) *Handler {
	return &Handler{Config: cfg, hub: newHub(cfg.Store.Changes, cfg.Logger)}
}

// Wait refuses further watchers, and waits until nothing of the others runs.
func (k *Handler) Wait() { k.hub.wait() }

// Watchers returns how many requests watch a key.
func (k *Handler) Watchers(key string) int { return k.hub.watchers(key) }

// ServeList serves /v1/keys.
func (k *Handler) ServeList(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := k.keys(ctx, who); err != nil {
		response.SendError(ctx, err)
	}
}

// ServeKey serves /v1/keys/{key}.
func (k *Handler) ServeKey(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := k.key(ctx, who); err != nil {
		response.SendError(ctx, err)
	}
}

// key serves the requests for one key.
func (k *Handler) key(ctx *fasthttp.RequestCtx, who *token.Rights) error {
	key, err := k.keyName(bytes.TrimPrefix(ctx.URI().PathOriginal(), []byte("/v1/keys/")))
	if err != nil {
		return err
	}
	given, err := readConditions(ctx)
	if err != nil {
		return err
	}
	switch string(ctx.Method()) {
	case "PUT":
		return k.putKey(ctx, who, key, given)
	case "DELETE":
		return k.deleteKey(ctx, who, key, given)
	}
	return k.getKey(ctx, who, key, given)
}

// keyName unescapes a key. Slashes belong to it, and a plus sign stays one.
func (k *Handler) keyName(escaped []byte) (string, error) {
	raw, err := urlquery.AppendUnescaped(nil, escaped, false)
	if err != nil {
		return "", err
	}
	key := string(raw)
	switch {
	case key == "":
		return "", response.BadRequest("The key is empty; the path is /v1/keys/{key}.")
	case len(key) > k.MaxKey:
		return "", response.KeyTooLong(k.MaxKey)
	case strings.HasPrefix(key, ReservedKeys):
		return "", response.BadRequest(fmt.Sprintf("Keys that start with %q are Holdfast's own.", ReservedKeys))
	}
	return key, nil
}

// getKey serves GET and HEAD of a key, and the two ways to watch it.
func (k *Handler) getKey(ctx *fasthttp.RequestCtx, who *token.Rights, key string, given conditions) error {
	if err := k.Auth.Permit(ctx, who, []redis.Command{{"GET", key}}); err != nil {
		return err
	}
	query := ctx.URI().QueryString()
	if _, ok, err := urlquery.Parameter(query, routes.Watch); err != nil {
		return err
	} else if ok {
		return k.watchKey(ctx, who, key)
	}
	if text, ok, err := urlquery.Parameter(query, routes.Wait); err != nil {
		return err
	} else if ok {
		return k.waitForKey(ctx, who, key, given, string(text))
	}
	r := &redis.Request{Commands: []redis.Command{{"GET", key}}} // a read, which is what ApplyHeaders has to know
	if err := k.Rules.ApplyHeaders(ctx, who, r); err != nil {
		return err
	}
	r.IdempotencyKey = "" // a read may be repeated without one
	r.Client = k.Senders.Reader(ctx, who)
	now, err := k.read(consistency.Within(ctx), r, key)
	if err != nil {
		return err
	}
	defer now.release()
	k.Rules.SetResultHeaders(ctx, r)
	return k.answerKey(ctx, &now, given)
}

// answerKey sends a key as it was read.
func (k *Handler) answerKey(ctx *fasthttp.RequestCtx, now *keyState, given conditions) error {
	if err := now.missing(); err != nil {
		return err
	}
	h := &ctx.Response.Header
	h.Set("ETag", now.etag())
	// A browser may keep it, but has to ask whether it has changed.
	h.Set("Cache-Control", "private, no-cache")
	if now.ttl >= 0 {
		h.Set(TTLHeader, formatSeconds(now.ttl))
	}
	switch status := given.read(now); status {
	case fasthttp.StatusPreconditionFailed:
		return errCondition
	case fasthttp.StatusNotModified:
		ctx.SetStatusCode(status)
		return nil
	}
	if r := now.request; r != nil && r.Held() > 0 {
		response.SendLong(ctx, r, now.contentType, &response.LongBody{Results: []redis.Result{{Reply: now.reply}}, Raw: true})
		return nil
	}
	ctx.SetContentType(now.contentType)
	ctx.SetBodyString(now.value)
	return nil
}

var errCondition = response.NewError(fasthttp.StatusPreconditionFailed, "The key is not as If-Match or If-None-Match asks; nothing was done.")

// putKey stores the body.
func (k *Handler) putKey(ctx *fasthttp.RequestCtx, who *token.Rights, key string, given conditions) error {
	contentType, err := readType(ctx)
	if err != nil {
		return err
	}
	ttl, err := readTTL(ctx)
	if err != nil {
		return err
	}
	if err := k.Auth.Permit(ctx, who, []redis.Command{{"SET", key, ""}}); err != nil {
		return err
	}
	value := string(ctx.PostBody())
	digest := sha1Hex(value)
	args := []string{given.match.argument(), given.noneMatch.argument(), value, digest, contentType, ""}
	if contentType == DefaultType {
		args[4] = ""
	}
	if ttl > 0 {
		args[5] = strconv.FormatInt(ttl.Milliseconds(), 10)
	}
	status, err := k.write(ctx, who, putKey, key, args)
	if err != nil {
		return err
	}
	ctx.Response.Header.Set("ETag", `"`+tagOf(contentType, digest)+`"`)
	ctx.SetStatusCode(status)
	return nil
}

// deleteKey deletes a key.
func (k *Handler) deleteKey(ctx *fasthttp.RequestCtx, who *token.Rights, key string, given conditions) error {
	if err := k.Auth.Permit(ctx, who, []redis.Command{{"DEL", key}}); err != nil {
		return err
	}
	status, err := k.write(ctx, who, deleteKey, key, []string{given.match.argument(), given.noneMatch.argument()})
	if err != nil {
		return err
	}
	ctx.SetStatusCode(status)
	return nil
}

// write runs a script that writes, and returns the status that the script returns.
func (k *Handler) write(ctx *fasthttp.RequestCtx, who *token.Rights, script *redis.Script, key string, args []string) (int, error) {
	r := &redis.Request{Script: script, Keys: []string{key, TypeKey(key)}, Args: args}
	if err := k.Rules.ApplyHeaders(ctx, who, r); err != nil {
		return 0, err
	}
	if err := k.Store.Do(consistency.Within(ctx), r); err != nil {
		return 0, err
	}
	k.Rules.SetResultHeaders(ctx, r)
	if err := r.Results[0].Err; err != nil {
		return 0, err
	}
	reply := r.Results[0].Reply
	first := reply.At(0)
	switch status := int(first.Int()); status {
	case fasthttp.StatusNotFound:
		return 0, errNoKey
	case fasthttp.StatusPreconditionFailed:
		return 0, errCondition
	case fasthttp.StatusConflict:
		holds := reply.At(1)
		return 0, errOtherType(holds.Text())
	default:
		return status, nil
	}
}

// readType returns the Content-Type of what is to be stored.
func readType(ctx *fasthttp.RequestCtx) (string, error) {
	h := &ctx.Request.Header
	if e := h.ContentEncoding(); len(e) > 0 && string(e) != "identity" {
		return "", response.NewError(fasthttp.StatusUnsupportedMediaType, "A Content-Encoding is not kept; send the value as it is to be read.")
	}
	if len(h.Peek("Content-Range")) > 0 { // RFC 9110, section 14.5
		return "", response.BadRequest("A value is stored as a whole; Content-Range means nothing here.")
	}
	t := string(h.ContentType())
	if t == "" {
		return DefaultType, nil
	}
	if len(t) > maxType {
		return "", response.BadRequest(fmt.Sprintf("The Content-Type is too long; at most %d bytes are possible.", maxType))
	}
	if !goodType(t) {
		return "", response.BadRequest("The Content-Type has other than printable ASCII characters.")
	}
	return t, nil
}

// goodType reports whether a text can be the type of a value.
func goodType(t string) bool {
	return len(t) > 0 && len(t) <= maxType && !strings.ContainsFunc(t, func(c rune) bool { return c < ' ' || c > '~' })
}

// readTTL returns the time to live that a PUT asks for; 0 when it asks for none.
func readTTL(ctx *fasthttp.RequestCtx) (time.Duration, error) {
	text := ctx.Request.Header.Peek(TTLHeader)
	asked := text != nil
	query, inQuery, err := urlquery.Parameter(ctx.URI().QueryString(), "ttl")
	switch {
	case err != nil:
		return 0, err
	case asked && inQuery:
		return 0, response.BadRequest("The time to live is given twice, in " + TTLHeader + " and in the query.")
	case inQuery:
		text, asked = query, true
	}
	if !asked {
		return 0, nil
	}
	d, ok := parseDuration(string(text))
	if !ok || d < time.Millisecond || d > maxTTL {
		return 0, response.BadRequest("A time to live is 30s, 1500ms, 2h or a number of seconds such as 60; from 1 ms to 100 years.")
	}
	return d, nil
}

// parseDuration reads a duration: in Go's form (1h30m, 1500ms), or in seconds.
func parseDuration(text string) (time.Duration, bool) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, true
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > maxTTL.Seconds() {
		return 0, false
	}
	return time.Duration(math.Round(n*1000)) * time.Millisecond, true
}

// formatSeconds returns a duration in seconds, with milliseconds.
func formatSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 3, 64)
}
