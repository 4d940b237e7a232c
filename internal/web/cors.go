package web

import (
	"bytes"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Headers of Cross-Origin Resource Sharing (Fetch standard, section 3.2), as
// far as they are the same for every answer.
const (
	corsMethods = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
	// corsExposed is what a page may see of an answer beside what every page
	// may.
	corsExposed = "ETag, Retry-After, Allow, Link, Location, WWW-Authenticate, Upstash-Sync-Token, Holdfast-Node, Holdfast-Read, Holdfast-TTL"
	// corsAge is how long a browser may keep the answer to a preflight, in
	// seconds.
	corsAge = "600"
)

// cors sets what lets other origins' pages read the answer. It answers true
// when the request was a preflight, or turned down, and is answered by that.
//
// No answer depends on cookies, so that every origin may be allowed by a star:
// a page has the token, or it has not.
func (s *Server) cors(ctx *fasthttp.RequestCtx) (done bool) {
	if len(s.cfg.CORS) == 0 {
		return s.stranger(ctx, false)
	}
	req, h := &ctx.Request.Header, &ctx.Response.Header
	origin := req.Peek(fasthttp.HeaderOrigin)
	all := slices.Contains(s.cfg.CORS, "*")
	allowed := len(origin) > 0 && (all || slices.Contains(s.cfg.CORS, string(origin)))
	if !all {
		h.Add(fasthttp.HeaderVary, fasthttp.HeaderOrigin) // also when there was none
	}
	if allowed {
		if all {
			h.Set(fasthttp.HeaderAccessControlAllowOrigin, "*")
		} else {
			h.SetBytesV(fasthttp.HeaderAccessControlAllowOrigin, origin)
		}
		h.Set(fasthttp.HeaderAccessControlExposeHeaders, corsExposed)
	}
	if ctx.IsOptions() && len(req.Peek(fasthttp.HeaderAccessControlRequestMethod)) > 0 {
		s.preflight(ctx, allowed)
		return true
	}
	return s.stranger(ctx, allowed)
}

// preflight answers a browser that asks what a page may send. One that gets no
// leave sends nothing.
func (s *Server) preflight(ctx *fasthttp.RequestCtx, allowed bool) {
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	if !allowed {
		return
	}
	h := &ctx.Response.Header
	h.Add(fasthttp.HeaderVary, fasthttp.HeaderAccessControlRequestHeaders)
	h.Set(fasthttp.HeaderAccessControlAllowMethods, corsMethods)
	// Any header may be sent: clients have their own (Upstash's SDK sends
	// several), and none has a meaning that its sender could not have had.
	if wanted := ctx.Request.Header.Peek(fasthttp.HeaderAccessControlRequestHeaders); isHeaderList(wanted) {
		h.SetBytesV(fasthttp.HeaderAccessControlAllowHeaders, wanted)
	}
	h.Set(fasthttp.HeaderAccessControlMaxAge, corsAge)
}

// isHeaderList says that a text is names of header fields with commas between.
func isHeaderList(list []byte) bool {
	return len(list) > 0 && len(list) <= 1024 && !bytes.ContainsFunc(list, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_, ", c))
	})
}

// secure sets what keeps a browser from doing anything with an answer but show
// it. Other clients are spared the bytes, unless the answer is of a kind that a
// browser would run: a value keeps the Content-Type that its writer gave it,
// and must not become a page of this origin.
func secure(ctx *fasthttp.RequestCtx) {
	if !bytes.HasPrefix(ctx.Request.Header.UserAgent(), []byte("Mozilla/")) && inert(ctx.Response.Header.ContentType()) {
		return
	}
	h := &ctx.Response.Header
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // the address may have a token in it
	if len(h.Peek(fasthttp.HeaderAccessControlAllowOrigin)) == 0 {
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	}
}

// inert says that a browser runs nothing of that type: with nosniff, it is what
// it is called.
func inert(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	switch string(kind) {
	case "", "application/json", "text/plain", "application/octet-stream", "text/event-stream":
		return true
	}
	return false
}
