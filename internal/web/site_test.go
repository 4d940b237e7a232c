package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/hostname"
	"holdfast/internal/token"
)

func ownNames(t testing.TB, names ...string) *hostname.Set {
	t.Helper()
	set, err := hostname.New(names...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

// asks are requests to a node without tokens that knows the name shop.example.
var asks = []struct {
	name   string
	method string
	path   string
	header string // lines
	status int
}{
	{"a program", "GET", "/set/k/v", "Host: 127.0.0.1:1\n", 200},
	{"a program that asks by name", "POST", "/set/k/v", "Host: localhost\n", 200},
	{"a container", "GET", "/set/k/v", "Host: web:6301\n", 200},
	{"a configured name", "GET", "/set/k/v", "Host: SHOP.example.:80\n", 200},
	{"rebinding", "GET", "/get/k", "Host: evil.example\n", 421},
	{"rebinding, a form of the source", "GET", "/set?key=k&value=v", "Host: evil.example:1\n", 421},
	{"rebinding, by POST", "POST", "/set/k/v", "Host: localhost.evil.example\n", 421},
	{"rebinding, as a browser asks", "POST", "/set/k/v", "Host: evil.example:1\nOrigin: http://evil.example:1\nSec-Fetch-Site: same-origin\nUser-Agent: " + browser + "\n", 421},
	{"rebinding, keys", "GET", "/v1/keys", "Host: evil.example\n", 421},
	{"rebinding, a pipeline", "POST", "/pipeline", "Host: evil.example\n", 421},
	{"rebinding, a preflight", "OPTIONS", "/set/k/v", "Host: evil.example\nOrigin: http://a.example\nAccess-Control-Request-Method: PUT\n", 421},
	{"rebinding, the state of Redis", "GET", "/healthz/master", "Host: evil.example\n", 421},
	{"a health check by another name", "GET", "/healthz/ready", "Host: check.example\n", 200},

	{"its own page", "POST", "/set/k/v", "Host: shop.example\nOrigin: http://shop.example\nUser-Agent: " + browser + "\n", 200},
	{"its own page, behind https", "POST", "/set/k/v", "Host: shop.example\nOrigin: https://shop.example\nSec-Fetch-Site: same-origin\n", 200},
	{"its own page, with the port", "POST", "/set/k/v", "Host: shop.example:443\nOrigin: https://Shop.example\n", 200},
	{"its own page that hides its address", "POST", "/set/k/v", "Host: localhost\nOrigin: null\nSec-Fetch-Site: same-origin\n", 200},
	{"its own page's image", "GET", "/set/k/v", "Host: shop.example\nReferer: http://shop.example/a?b\nUser-Agent: " + browser + "\n", 200},
	{"another's form", "POST", "/set/k/v", "Host: localhost\nOrigin: http://evil.example\n", 403},
	{"another port's form", "POST", "/set/k/v", "Host: localhost:1\nOrigin: http://localhost:2\n", 403},
	{"a form of a page below", "POST", "/set/k/v", "Host: shop.example\nOrigin: http://evil.shop.example\n", 403},
	{"a form of a page that begins alike", "POST", "/set/k/v", "Host: shop.example\nOrigin: http://shop.example.evil\n", 403},
	{"a form of a page without an address", "POST", "/set/k/v", "Host: localhost\nOrigin: null\n", 403},
	{"no origin at all", "POST", "/set/k/v", "Host: localhost\nOrigin: evil\n", 403},
	{"an extension", "POST", "/set/k/v", "Host: localhost\nOrigin: chrome-extension://abc\n", 403},
	{"a script that reads", "GET", "/get/k", "Host: localhost\nOrigin: http://evil.example\n", 403},
	{"an event source", "GET", "/subscribe/c", "Host: localhost\nOrigin: http://evil.example\nAccept: text/event-stream\n", 403},
	{"a web socket", "GET", "/set/k/v", "Host: localhost\nOrigin: http://evil.example\nUpgrade: websocket\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n", 403},
	{"a site of the same name, otherwise", "GET", "/set/k/v", "Host: localhost\nSec-Fetch-Site: same-site\n", 403},
	{"a word that is not known yet", "GET", "/set/k/v", "Host: localhost\nSec-Fetch-Site: some-site\n", 403},
	{"an image over plain http", "GET", "/set/k/v", "Host: shop.example\nReferer: http://evil.example/\nUser-Agent: " + browser + "\n", 403},
	{"an image over plain http that hides its page", "GET", "/set/k/v", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 403},
	{"the source's form, likewise", "GET", "/set?key=k&value=v", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 403},
	{"another command, likewise", "GET", "/getdel/k", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 403},
	{"a stream, likewise", "GET", "/subscribe/c", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 403},
	{"an old browser's form", "POST", "/set/k/v", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 403},
	{"the address bar, to read", "GET", "/get?key=k", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 200},
	{"the address bar, to read a key", "GET", "/v1/keys/k", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 200},
	{"the address bar on this machine", "GET", "/set/k/v", "Host: 127.0.0.1\nSec-Fetch-Site: none\nSec-Fetch-Mode: navigate\nUser-Agent: " + browser + "\n", 200},
}

// askRaw sends a request with these header lines, unchanged.
func askRaw(t *testing.T, base, method, path, header string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	length := ""
	if method == "POST" {
		length = "Content-Length: 0\r\n"
	}
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\n%s%s\r\n", method, path, strings.ReplaceAll(header, "\n", "\r\n"), length)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode == 200 && strings.HasPrefix(path, "/subscribe") {
		return r.StatusCode, ""
	}
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

func TestAnotherSitesPageCannotUseANodeWithoutTokens(t *testing.T) {
	client, _ := single(t)
	hosts := ownNames(t, "shop.example")
	bare, _, _ := serveWith(t, Config{Hosts: hosts}, client)
	slow, _, _ := serveWith(t, Config{Hosts: hosts, CORS: []string{"https://named.example"}}, client)
	guarded, _, _ := serveWith(t, Config{Hosts: hosts, Tokens: tokens(t, token.Entry{Name: "a"})}, client)
	for _, c := range asks {
		for _, base := range []string{bare, slow} {
			askRaw(t, base, "GET", "/set/k/before", "Host: localhost\n")
			status, body := askRaw(t, base, c.method, c.path, c.header)
			if status != c.status && !(base == slow && c.method == "OPTIONS") {
				t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
			}
			if _, value := askRaw(t, base, "GET", "/get?key=k", "Host: localhost\n"); c.status != 200 && value != "before" {
				t.Errorf("%s: it has written: %s", c.name, value)
			}
		}
		// A page has no token, so the host of its request does not matter.
		if c.status == 421 && !strings.HasPrefix(c.path, "/healthz") && c.method != "OPTIONS" {
			if status, body := askRaw(t, guarded, c.method, c.path, c.header); status != 401 {
				t.Errorf("%s, with tokens: %d %s", c.name, status, body)
			}
		}
	}
}

// The check is made for every request.
func TestLookingForOtherSitesPagesCostsNothing(t *testing.T) {
	client, _ := single(t)
	s := New(inStack(t), client)
	for _, c := range []struct{ method, path, host, header string }{
		{"GET", "/get?key=k", "127.0.0.1", ""},
		{"GET", "/set/k/v", "localhost:6301", "User-Agent: bench\r\n"},
		{"POST", "/", "web", "User-Agent: bench\r\nAuthorization: Bearer a\r\n"},
		{"POST", "/", "Shop.example.:80", "User-Agent: bench\r\nX-Forwarded-For: 10.1.2.3\r\n"},
		{"POST", "/", "shop.example", "User-Agent: " + browser + "\r\nOrigin: https://shop.example\r\nSec-Fetch-Site: same-origin\r\n"},
		{"GET", "/set/k/v", "shop.example", "User-Agent: " + browser + "\r\nReferer: http://shop.example/page\r\n"},
		{"GET", "/get/k", "localhost", "User-Agent: " + browser + "\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n"},
	} {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, nil, silent{})
		if err := ctx.Request.Header.Read(bufio.NewReader(strings.NewReader(c.method + " " + c.path + " HTTP/1.1\r\nHost: " + c.host + "\r\n" + c.header + "\r\n"))); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() {
			if s.auth.AnswersOrigin(&ctx) {
				t.Errorf("%v is turned down", c)
			}
		}); n > 0 {
			t.Errorf("%v: %v allocations", c, n)
		}
	}
}

func TestThePortOfThoseWhoRunANodeIsNotAnotherSites(t *testing.T) {
	client, _ := single(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Hosts: ownNames(t), Tokens: tokens(t, token.Entry{Name: "a"})}, client)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.ServeAdmin(ctx, ln) }()
	defer func() { cancel(); <-served }()
	base := "http://" + ln.Addr().String()
	for _, c := range []struct {
		path, header string
		status       int
	}{
		{"/metrics", "Host: localhost\n", 200},
		{"/metrics", "Host: node\nUser-Agent: " + browser + "\n", 200},
		{"/metrics", "Host: evil.example\n", 421},
		{"/debug/pprof/heap", "Host: evil.example:1\nSec-Fetch-Site: same-origin\n", 421},
		{"/metrics", "Host: localhost\nOrigin: http://evil.example\n", 403},
		{"/metrics", "Host: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\n", 403},
		{"/debug/pprof/profile?seconds=1", "Host: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\n", 403},
		{"/debug/pprof/profile?seconds=1", "Host: 10.1.2.3\nUser-Agent: " + browser + "\n", 403},
		{"/debug/pprof/", "Host: localhost\nSec-Fetch-Site: none\nUser-Agent: " + browser + "\n", 200},
		{"/debug/pprof/profile?seconds=61", "Host: localhost\n", 400},
		{"/debug/pprof/trace?seconds=1e9", "Host: localhost\n", 400},
		{"/debug/pprof/trace?seconds=Inf", "Host: localhost\n", 400},
		{"/debug/pprof/heap?seconds=99999", "Host: localhost\n", 400},
		{"/debug/pprof/goroutine?seconds=-1", "Host: localhost\n", 400},
		{"/debug/pprof/trace?seconds=1", "Host: localhost\n", 200},
		{"/debug/pprof/cmdline", "Host: localhost\n", 404},
	} {
		if status, body := askRaw(t, base, "GET", c.path, c.header); status != c.status {
			t.Errorf("%s with %q: %d %.200s, want %d", c.path, c.header, status, body, c.status)
		}
	}
}
