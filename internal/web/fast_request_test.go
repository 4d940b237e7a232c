package web

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/auth"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/routes"
)

const plainHead = "Host: x\r\nUser-Agent: t\r\n"

// usual has fields that clients and balancers often send and that no response depends on.
const usual = "Accept: */*\r\nAccept-Encoding: gzip, br\r\nCookie: a=b; c=\"d e\"; =; e\r\nDNT: 1\r\nX-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678\r\n" +
	"X-Cloud-Trace-Context: 105445aa7843bc8bf206b12000100000/1;o=1\r\nCF-Ray: 230b030023ae2822-SJC\r\nCDN-Loop: x\r\nTrue-Client-IP: 1.1.1.1\r\n" +
	"X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7\r\nbaggage: a=b\r\nReferer: http://x/\r\nSec-Fetch-Dest: empty\r\nSec-CH-UA: \"x\";v=\"1\"\r\nSec-GPC: 1\r\n" +
	"Upgrade-Insecure-Requests: 1\r\nX-Requested-With: XMLHttpRequest\r\nX-Api-Key: k\r\nX-Csrf-Token: t\r\nIf-None-Match: \"x\"\r\nIf-Match: *\r\n" +
	"If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT\r\nRange: bytes=0-0\r\nContent-Range: bytes 0-1/2\r\nFrom: a@b\r\nDate: now\r\nContent-Encoding: gzip\r\n" +
	"Holdfast-TTL: 5\r\nHoldfast-Unknown: y\r\nAccess-Control-Request-Method: GET\r\nX_Under: y\r\nCookie: again=1\r\nX-" + "Very-Long-Name-That-Nobody-Has-Ever-Heard-Of: y\r\n"

// What two parsers could read in two ways, or what is wrong, unusual or incomplete, is never
// simple: so no request is smuggled through the loop.
func TestOnlyWhatIsPlainIsSimple(t *testing.T) {
	get := "GET /get?key=k HTTP/1.1\r\n"
	post := "POST /set/k HTTP/1.1\r\n" + plainHead
	for _, raw := range []string{
		get + plainHead + "\r\n",
		get + "HOST: x:80\r\nholdfast-read:cached\r\nHoldfast-Attempt:   a b  \r\nConnection: Keep-Alive\r\n\r\n",
		post + "Content-Length: 1\r\n\r\nv",
		post + "Content-Length: 0\r\n\r\n",
		"PUT / HTTP/1.1\r\n" + plainHead + "Content-Length: 8\r\n\r\n[\"PING\"]",
		get + plainHead + usual + "\r\n",
		"GET /set?key=a%20b&value=" + strings.Repeat("x", 10000) + " HTTP/1.1\r\n" + plainHead + "\r\n",
	} {
		var q httpfast.Request
		if !q.Parse([]byte(raw)) {
			t.Errorf("%.80q is not simple", raw)
		}
		for i := range len(raw) - 1 {
			if q.Parse([]byte(raw[:i])) {
				t.Errorf("%.80q is simple without its end, %d bytes", raw, len(raw)-i)
			}
		}
		if q.Parse([]byte(raw+"\r")) || q.Parse([]byte(raw+raw)) {
			t.Errorf("%.80q is simple with something behind it", raw)
		}
	}
	for _, raw := range []string{
		"GET /a HTTP/1.0\r\n" + plainHead + "\r\n",
		"GET /a HTTP/1.1\n" + "Host: x\n\n",
		"GET /a  HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET  /a HTTP/1.1\r\n" + plainHead + "\r\n",
		"get /a HTTP/1.1\r\n" + plainHead + "\r\n",
		"HEAD /a HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET a HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET //a HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET http://x/a HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET /a#b HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET /a\x00 HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET /a\x7f HTTP/1.1\r\n" + plainHead + "\r\n",
		"GET /\xc3\xa9 HTTP/1.1\r\n" + plainHead + "\r\n",
		"\r\nGET /a HTTP/1.1\r\n" + plainHead + "\r\n",
		get + "\r\n",
		get + "Host: \r\n\r\n",
		get + "Host: x\r\nHost: x\r\n\r\n",
		get + "Host: x@y\r\n\r\n",
		get + "Host: :1\r\n\r\n",
		get + "Host: x:\r\n\r\n",
		get + "Host: x:y\r\n\r\n",
		get + "Host: x:1:1\r\n\r\n",
		get + "Host: x:65536\r\n\r\n",
		get + "Host : x\r\n\r\n",
		get + " Host: x\r\n\r\n",
		get + "Host: x\r\n folded\r\n\r\n",
		get + "Host: x\r\n\tfolded: y\r\n\r\n",
		get + "Host: x\rAccept: y\r\n\r\n",
		get + "Host: x\nAccept: y\r\n\r\n",
		get + plainHead + "Accept: a\tb\r\n\r\n",
		get + plainHead + ": y\r\n\r\n",
		get + plainHead + "Accept\r\n\r\n",
		get + plainHead + "X-Sélf: y\r\n\r\n",
		get + plainHead + "X(1): y\r\n\r\n",
		get + plainHead + "Cookie: \xe9\r\n\r\n",
		get + plainHead + "Trailer: x\r\n\r\n",
		get + plainHead + "TE: trailers\r\n\r\n",
		get + plainHead + "Expect: 100-continue\r\n\r\n",
		get + plainHead + "Upgrade: h2c\r\n\r\n",
		get + plainHead + "Origin: http://a\r\n\r\n",
		get + plainHead + "Sec-Fetch-Site: cross-site\r\n\r\n",
		get + plainHead + "Connection: close\r\n\r\n",
		get + plainHead + "Connection: keep-alive, upgrade\r\n\r\n",
		get + plainHead + "Holdfast-Read: cached\r\nholdfast-read: master\r\n\r\n",
		get + plainHead + "Idempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n",
		get + plainHead + "Authorization: a\r\nAuthorization: b\r\n\r\n",
		get + "Host: x\r\nUser-Agent: Mozilla/5.0\r\n\r\n",
		get + plainHead + "Content-Length: 0\r\n\r\n",
		get + plainHead + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		post + "\r\n",
		post + "Content-Length: +1\r\n\r\nv",
		post + "Content-Length: 01\r\n\r\nv",
		post + "Content-Length: 0x1\r\n\r\nv",
		post + "Content-Length: 1, 1\r\n\r\nv",
		post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nv",
		post + "Content-Length: 18446744073709551617\r\n\r\nv",
		post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
		post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		post + "Content-Length : 1\r\n\r\nv",
		post + "Content_Length: 1\r\n\r\nv",
	} {
		var q httpfast.Request
		if q.Parse([]byte(raw)) {
			t.Errorf("%q is taken for simple", raw)
		}
	}
}

// anybody lets everybody do everything, except for pages of other sites.
var anybody = auth.New(auth.Config{}, nil, nil)

// sameAs returns how the HTTP server reads a request differently; empty when it reads the same, up
// to the last byte.
func sameAs(q *httpfast.Request, raw []byte) string {
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, nil, silent{})
	r := bufio.NewReader(bytes.NewReader(raw))
	if err := ctx.Request.Header.Read(r); err != nil {
		return fmt.Sprintf("it is an error there: %v", err)
	}
	if ctx.Request.MayContinue() {
		return "it waits for leave to go on there"
	}
	if err := ctx.Request.ContinueReadBody(r, 1<<20, false); err != nil {
		return fmt.Sprintf("its body is an error there: %v", err)
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		return fmt.Sprintf("%q is left over there", rest)
	}
	if err := validateRequest(&ctx); err != nil {
		return fmt.Sprintf("it is turned down there: %v", err)
	}
	if ctx.Request.Header.ConnectionClose() {
		return "its connection is closed there"
	}
	if anybody.AnswersOrigin(&ctx) || bytes.HasPrefix(ctx.Request.Header.UserAgent(), []byte("Mozilla/")) {
		return "a browser sent it"
	}
	var w httpfast.Options
	w.ReadHeader(&ctx.Request.Header)
	for _, pair := range [][3]any{
		{"method", routes.Methods[q.Method], string(ctx.Method())},
		{"path", string(q.Path), string(ctx.URI().PathOriginal())},
		{"query", string(q.Query), string(ctx.URI().QueryString())},
		{"body", string(q.Body), string(ctx.Request.Body())},
		{"authorization", string(q.Authorization), string(ctx.Request.Header.Peek("Authorization"))},
		{"source", string(q.Source), string(ctx.Request.Header.Peek(fair.SourceHeader))},
		{"wishes", fmt.Sprintf("%v", q.Options), fmt.Sprintf("%v", w)},
		{"token", q.Options.SyncToken == nil, w.SyncToken == nil},
	} {
		if pair[1] != pair[2] {
			return fmt.Sprintf("%s is %q here and %q there", pair[0], pair[1], pair[2])
		}
	}
	return ""
}

// FuzzSimple compares what is simple with what the HTTP server reads.
func FuzzSimple(f *testing.F) {
	heads := []string{"", "holdfast-read: cached\r\n", "UPSTASH-SYNC-TOKEN:\r\n", "Upstash-Sync-Token: hf1.a~1\r\n", "Idempotency-Key:  a b \r\n",
		"Holdfast-Max-Lag: 1s\r\nHoldfast-Write: async\r\n", "Upstash-Encoding: base64\r\nUpstash-Response-Format: resp2\r\n",
		"Content-Type: application/x-www-form-urlencoded\r\n", "Content-Type: multipart/form-data; boundary=a\r\n",
		"Authorization: Bearer a\r\n", "Connection: keep-alive\r\n", "Connection: close\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n",
		"holdfast-received: 1\r\nholdfast-attempt: x\r\nx-forwarded-for: 1.1.1.1\r\nholdfast-source: s/1.1.1.1\r\n", "Host: y\r\n", "Accept:*/*\r\n", "Cookie: a=b\r\n", "DNT: 1\r\nx_y!#$%&'*+.^`|~: z\r\nCookie:;;=\r\ncookie: =a\r\n",
		"Content-Encoding: gzip\r\nRange: bytes=0-1\r\nIf-None-Match: *\r\n", strings.Repeat("x", 40) + ": y\r\n", "Trailer: Host\r\n", " x: y\r\n", "a b: c\r\n"}
	for _, h := range heads {
		f.Add([]byte("GET /get?key=k&value=http://a/b HTTP/1.1\r\n" + plainHead + h + "\r\n"))
		f.Add([]byte("POST /set/k%2F/?EX=1 HTTP/1.1\r\n" + h + plainHead + "Content-Length: 3\r\n\r\na\r\n"))
	}
	for _, target := range []string{"/", "/?", "/a?b?c", "/a/../b", "/./a", "/%2e%2e/a", "/a:b", "/a;b", "/a//b", "/http://x/", "/%", "/%zz", "/a?%00", "/@x:1/", "/\\x", "/a\"<>"} {
		f.Add([]byte("GET " + target + " HTTP/1.1\r\n" + plainHead + "\r\n"))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var q httpfast.Request
		if !q.Parse(slices.Clip(raw)) {
			return
		}
		if wrong := sameAs(&q, raw); wrong != "" {
			t.Errorf("%q: %s", raw, wrong)
		}
	})
}

func TestReadingASimpleRequestCostsNothing(t *testing.T) {
	raw := []byte("GET /get?key=k HTTP/1.1\r\n" + plainHead + "holdfast-attempt: 0123456789\r\nx-forwarded-for: 127.0.0.1\r\nHoldfast-Source: secret/127.0.0.1\r\n\r\n")
	var q httpfast.Request
	if n := testing.AllocsPerRun(100, func() { q.Parse(raw) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// silent is a logger of fasthttp that says nothing.
type silent struct{}

func (silent) Printf(string, ...any) {}
