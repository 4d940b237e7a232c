package auth

import (
	"bytes"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Response headers of Cross-Origin Resource Sharing (Fetch standard, section 3.2) that are always
// the same.
const (
	corsMethods = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
	// corsExposed lists the headers that a page of another origin may read, beyond those that every
	// page may.
	corsExposed = "ETag, Retry-After, Allow, Link, Location, WWW-Authenticate, Upstash-Sync-Token, Holdfast-Node, Holdfast-Read, Holdfast-TTL"
	// corsAge is for how long a browser may keep the response to a preflight, in seconds.
	corsAge = "600"
)

// AnswersOrigin sets the headers that let pages of other origins read the response. It reports
// whether the request is answered by that: it was a preflight, or it was refused.
//
// A star may allow every origin, because no response depends on cookies: a page has the token, or
// it has not.
func (a *Authorizer) AnswersOrigin(ctx *fasthttp.RequestCtx) (done bool) {
	if len(a.cfg.CORS) == 0 {
		return a.refusesSite(ctx, false)
	}
	req, h := &ctx.Request.Header, &ctx.Response.Header
	origin := req.Peek(fasthttp.HeaderOrigin)
	all := slices.Contains(a.cfg.CORS, "*")
	allowed := len(origin) > 0 && (all || slices.Contains(a.cfg.CORS, string(origin)))
	if !all {
		h.Add(fasthttp.HeaderVary, fasthttp.HeaderOrigin) // also when there was no Origin
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
		a.preflight(ctx, allowed)
		return true
	}
	return a.refusesSite(ctx, allowed)
}

// preflight answers a browser that asks what a page may send. Without the headers set here, the
// browser sends nothing.
func (a *Authorizer) preflight(ctx *fasthttp.RequestCtx, allowed bool) {
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	if !allowed {
		return
	}
	h := &ctx.Response.Header
	h.Add(fasthttp.HeaderVary, fasthttp.HeaderAccessControlRequestHeaders)
	h.Set(fasthttp.HeaderAccessControlAllowMethods, corsMethods)
	// Any header may be sent: clients have their own (Upstash's SDK sends several), and no header
	// means more from a page than from any other sender.
	if wanted := ctx.Request.Header.Peek(fasthttp.HeaderAccessControlRequestHeaders); isHeaderList(wanted) {
		h.SetBytesV(fasthttp.HeaderAccessControlAllowHeaders, wanted)
	}
	h.Set(fasthttp.HeaderAccessControlMaxAge, corsAge)
}

// isHeaderList reports whether a text looks like names of header fields, separated by commas.
func isHeaderList(list []byte) bool {
	return len(list) > 0 && len(list) <= 1024 && !bytes.ContainsFunc(list, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_, ", c))
	})
}
