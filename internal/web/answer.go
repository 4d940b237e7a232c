package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/valyala/fasthttp"
)

// form is the form of a response.
type form struct {
	base64 bool // every string of the response
	resp2  bool // as Redis itself sends it, instead of JSON
}

// marks are header fields of every response. Values are the clients' own bytes: no browser may take
// them for anything but what the Content-Type says.
var marks = [][2][]byte{
	{[]byte("X-Content-Type-Options"), []byte("nosniff")},
	{[]byte("Cache-Control"), []byte("no-store")},
	{[]byte("Content-Security-Policy"), []byte("default-src 'none'; frame-ancestors 'none'")},
}

// nodeHeader has the node's name.
var nodeHeader = []byte("Holdfast-Node")

// mark sets the header fields of every response. node is the node's name; empty: it is not sent.
func mark(ctx *fasthttp.RequestCtx, node []byte) {
	h := &ctx.Response.Header
	for _, m := range marks {
		h.SetCanonical(m[0], m[1])
	}
	if len(node) > 0 {
		h.SetCanonical(nodeHeader, node)
	}
}

// commonHeaders returns what mark sets.
func commonHeaders(node []byte) [][2][]byte {
	all := append([][2][]byte(nil), marks...)
	if len(node) > 0 {
		all = append(all, [2][]byte{nodeHeader, node})
	}
	return all
}

// secure sets the headers that keep a browser from doing anything with a response except showing
// it. A value has the Content-Type that its writer gave it, and must not become a page of this
// origin. Other clients are spared these bytes, unless the response is of a type that a browser
// would run.
func secure(ctx *fasthttp.RequestCtx) {
	if !bytes.HasPrefix(ctx.Request.Header.UserAgent(), []byte("Mozilla/")) && inert(ctx.Response.Header.ContentType()) {
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

// inert reports whether a browser runs nothing in content of that type. With nosniff, the type is
// what counts.
func inert(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	switch string(kind) {
	case "", "application/json", "text/plain", "application/octet-stream", "text/event-stream":
		return true
	}
	return false
}

func answerJSON(ctx *fasthttp.RequestCtx, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx.SetContentType(applicationJSON)
	ctx.SetBody(append(body, '\n'))
	return nil
}

// sendBytes sends a client's own bytes.
func sendBytes(ctx *fasthttp.RequestCtx, body []byte) {
	ctx.SetContentType(typeOf(body))
	ctx.SetBody(body)
}

// typeOf returns the Content-Type for a client's own bytes.
func typeOf(body []byte) string {
	if utf8.Valid(body) {
		return textPlain
	}
	return octetStream
}

// bytesOf returns the bytes of a string, which must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// shown returns a command's name for an error message; a client may have sent anything.
func shown(name string) string {
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

// keyTooLong returns the error of a key that is longer than most bytes.
func keyTooLong(most int) error {
	return newError(fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("The key is too long; at most %d bytes are possible.", most))
}

// The methods of the routes. HEAD is GET without the body.
var (
	getHead   = []string{"GET", "HEAD"}
	getPost   = []string{"GET", "POST"}
	postPut   = []string{"POST", "PUT"}
	anyMethod = []string{"GET", "HEAD", "POST", "PUT"}
)

// The words of requireMethod: those of commands begin like Redis' own, those of /v1 are a sentence.
const (
	commandMethods  = "ERR the method is not allowed here; allowed are %s"
	resourceMethods = "The method is not allowed here; allowed are %s."
)

// requireMethod returns the error of a request whose method is not one of methods, else nil. words
// are the error's, with a %s for the methods.
func requireMethod(ctx *fasthttp.RequestCtx, words string, methods ...string) error {
	if slices.Contains(methods, string(ctx.Method())) {
		return nil
	}
	all := strings.Join(methods, ", ")
	ctx.Response.Header.Set("Allow", all)
	return newError(fasthttp.StatusMethodNotAllowed, fmt.Sprintf(words, all))
}

// allow reports whether the method is one of methods. If not, it sends the error.
func allow(ctx *fasthttp.RequestCtx, methods ...string) bool {
	err := requireMethod(ctx, commandMethods, methods...)
	if err != nil {
		failJSON(ctx, err)
	}
	return err == nil
}
