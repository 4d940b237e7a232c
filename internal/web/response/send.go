package response

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/httpfast"
)

// Form is the form of a response.
type Form struct {
	Base64 bool // every string of the response
	RESP2  bool // as Redis itself sends it, instead of JSON
}

// CommonHeaders are header fields of every response. Values are the clients' own bytes: no browser
// may take them for anything but what the Content-Type says.
var commonHeaders = [][2][]byte{
	{[]byte("X-Content-Type-Options"), []byte("nosniff")},
	{[]byte("Cache-Control"), []byte("no-store")},
	{[]byte("Content-Security-Policy"), []byte("default-src 'none'; frame-ancestors 'none'")},
}

// nodeHeader has the node's name.
var nodeHeader = []byte("Holdfast-Node")

// SetCommonHeaders sets the header fields of every response. node is the node's name; empty: it is
// not sent.
func SetCommonHeaders(ctx *fasthttp.RequestCtx, node []byte) {
	h := &ctx.Response.Header
	for _, m := range commonHeaders {
		h.SetCanonical(m[0], m[1])
	}
	if len(node) > 0 {
		h.SetCanonical(nodeHeader, node)
	}
}

// CommonHeaders returns the header fields that SetCommonHeaders sets.
func CommonHeaders(node []byte) [][2][]byte {
	all := append([][2][]byte(nil), commonHeaders...)
	if len(node) > 0 {
		all = append(all, [2][]byte{nodeHeader, node})
	}
	return all
}

// SetBrowserHeaders sets the headers that keep a browser from doing anything with a response except
// showing it. A value has the Content-Type that its writer gave it, and must not become a page of
// this origin. Other clients are spared these bytes, unless the response is of a type that a
// browser would run.
func SetBrowserHeaders(ctx *fasthttp.RequestCtx) {
	if !bytes.HasPrefix(ctx.Request.Header.UserAgent(), []byte("Mozilla/")) && runsNothing(ctx.Response.Header.ContentType()) {
		return
	}
	h := &ctx.Response.Header
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // the URL may have a token in it
	if len(h.Peek(fasthttp.HeaderAccessControlAllowOrigin)) == 0 {
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	}
}

// runsNothing reports whether a browser runs nothing in content of that type. With nosniff, the type is
// what counts.
func runsNothing(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	switch string(kind) {
	case "", "application/json", "text/plain", "application/octet-stream", "text/event-stream":
		return true
	}
	return false
}

// SendJSON sends a value as JSON.
func SendJSON(ctx *fasthttp.RequestCtx, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx.SetContentType(httpfast.JSON)
	ctx.SetBody(append(body, '\n'))
	return nil
}

// SendBytes sends a client's own bytes.
func SendBytes(ctx *fasthttp.RequestCtx, body []byte) {
	ctx.SetContentType(TypeOf(body))
	ctx.SetBody(body)
}

// TypeOf returns the Content-Type for a client's own bytes.
func TypeOf(body []byte) string {
	if utf8.Valid(body) {
		return httpfast.TextPlain
	}
	return httpfast.OctetStream
}

// BytesOf returns the bytes of a string, which must not be changed.
func BytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// ShownName returns a command's name for an error message; a client may have sent anything.
func ShownName(name string) string {
	if len(name) > 40 {
		name = name[:40]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
}

// KeyTooLong returns the error of a key that is longer than most bytes.
func KeyTooLong(most int) error {
	return NewError(fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("The key is too long; at most %d bytes are possible.", most))
}
