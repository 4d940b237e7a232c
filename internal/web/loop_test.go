//go:build linux && (amd64 || arm64)

package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/httpfast"
)

// watched is a handler that counts what it answers.
type watched struct {
	eventloop.Handler
	taken atomic.Int64
}

func (w *watched) Respond(f *eventloop.Pending, q *httpfast.Request, out []byte) ([]byte, eventloop.Progress) {
	out, p := w.Handler.Respond(f, q, out)
	if p != eventloop.Declined {
		w.taken.Add(1)
	}
	return out, p
}

// slowStore is a Store that no loop can use.
type slowStore struct{ Store }

// listen serves a server until the test ends.
func listen(t *testing.T, server *Server) (addr string, stop func() error) {
	t.Helper()
	return listenWith(t, func(ctx context.Context, ln net.Listener) error { return server.Serve(ctx, ln) })
}

// listenWith is listen for any server that serves until its context ends.
func listenWith(t *testing.T, serve func(context.Context, net.Listener) error) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln) }()
	stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String(), stop
}

// counted returns a server whose loops count what they answer.
func counted(t *testing.T, cfg Config, store Store) (*Server, *watched) {
	t.Helper()
	return countedAround(t, cfg, store, func(h eventloop.Handler) eventloop.Handler { return h })
}

// countedAround is counted with something around the loops' handler.
func countedAround(t *testing.T, cfg Config, store Store, around func(eventloop.Handler) eventloop.Handler) (*Server, *watched) {
	t.Helper()
	// Until Redis has said what its commands are, loops answer nothing.
	if _, err := store.Spec(t.Context(), redis.Command{"GET"}); err != nil {
		t.Fatal(err)
	}
	w := &watched{}
	server := newServer(cfg, store, func(h eventloop.Handler) eventloop.Handler {
		w.Handler = around(h)
		return w
	})
	return server, w
}

// caller is a client with one connection, request by request.
type caller struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return &caller{conn, bufio.NewReader(conn)}
}

// answer reads one response, and returns its bytes.
func (c *caller) answer() (string, error) {
	var all strings.Builder
	length := 0
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return all.String(), err
		}
		all.WriteString(line)
		if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			fmt.Sscan(n, &length)
		}
		if line == "\r\n" {
			break
		}
	}
	_, err := io.CopyN(&all, c.r, int64(length))
	return all.String(), err
}

func (c *caller) ask(t *testing.T, raw string) string {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	got, err := c.answer()
	if err != nil {
		t.Fatalf("%.100q: %v after %q", raw, err, got)
	}
	return got
}

// passing matches what differs between two responses to the same request: the time, the number of
// the response, the offset of a write.
var passing = regexp.MustCompile(`(?m)^(Date|Upstash-Sync-Token): .*$`)

func TestALoopAnswersAsTheServerDoes(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	master.Do("SET", "binary", "\xff\x00\r\n")
	master.Do("SET", "unicode", "é\u2028<>")
	master.Do("SET", "large", strings.Repeat("x", 300_000))
	master.Do("LPUSH", "list", "a", "b")
	master.Do("HSET", "hash", "f", "v")
	const secret = "0123456789abcdef0123"
	tokens, err := token.New([]token.Entry{{Name: "all", Hash: token.Hash(secret), Mode: "read-write"}})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("k", 70_000)
	for _, variant := range []struct {
		name   string
		cfg    Config
		header string
	}{
		{"plain", Config{Node: "web-1", MaxKey: 100}, ""},
		{"with tokens", Config{Tokens: tokens}, "Authorization: Bearer " + secret + "\r\n"},
		{"cached, async", Config{Read: redis.ReadCached, Async: true}, ""},
	} {
		t.Run(variant.name, func(t *testing.T) {
			server, taken := counted(t, variant.cfg, client)
			here, _ := listen(t, server)
			there, _ := listen(t, New(variant.cfg, slowStore{client}))
			quick, slow := dial(t, here), dial(t, there)
			get := func(target string, fields ...string) string {
				return "GET " + target + " HTTP/1.1\r\n" + plainHead + variant.header + strings.Join(fields, "") + "\r\n"
			}
			post := func(target, body string, fields ...string) string {
				return "POST " + target + " HTTP/1.1\r\n" + plainHead + variant.header + strings.Join(fields, "") + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
			}
			const resp2, base64 = "Upstash-Response-Format: resp2\r\n", "upstash-encoding: base64\r\n"
			for _, test := range []struct {
				raw  string
				loop bool // it is served on a loop
			}{
				{get("/get?key=k"), true},
				{get("/get?key=k", "Holdfast-Read: cached\r\n"), true},
				{get("/get?key=k", "Holdfast-Read: cached\r\n"), true},
				{get("/get?key=none", "Holdfast-Read: cached\r\n"), true},
				{get("/get?key=k", "Holdfast-Read: master\r\n"), true},
				{get("/get?key=k", "Holdfast-Read: nowhere\r\n"), false},
				{get("/get?key=k", "Holdfast-Max-Lag: never\r\n"), false},
				{get("/get?key=k", "Upstash-Sync-Token:\r\n"), true},
				{get("/get?key=none"), true},
				{get("/get?key=binary"), true},
				{get("/get?key=unicode"), true},
				{get("/get?key=large"), true},
				{get("/get?key=list"), true},
				{get("/get?key="), false},
				{get("/get?key=%zz"), false},
				{get("/get?k%65y=k&key=other"), true},
				{get("/get"), false},
				{get("/GET"), true}, // GET without its key
				{get("/get?key=" + strings.Repeat("k", 101)), variant.cfg.MaxKey == 0},
				{get("/set?key=a&value=b"), true},
				{get("/set?key=a+b%20c&value=%C3%A9+%2B"), true},
				{get("/set?key=a&value=%ff"), true},
				{get("/set?key=a&value="), true},
				{get("/set?key=a"), false},
				{get("/set?value=a"), false},
				{get("/set?key=list&value=" + strings.Repeat("v", 10_000)), true},
				{get("/get?key=list"), true},
				{get("/set?key=a&value=b", "Idempotency-Key: one\r\n"), true},
				{get("/set?key=a&value=b", "Idempotency-Key: one\r\n"), true},
				{get("/set?key=a&value=b", "Holdfast-Attempt: 1-2\r\n", fmt.Sprintf("Holdfast-Received: %d\r\n", time.Now().Unix())), true},
				{get("/set?key=a&value=b", "Holdfast-Received: 1\r\n"), false},
				{get("/set?key=a&value=b", "Idempotency-Key: \r\n"), false},
				{get("/set?key=%00holdfast%00x&value=b"), true},
				{post("/set?key=a&value=b", ""), true},
				{post("/set?key=a&value=b", "c"), true}, // SET c key a value b
				{get("/get/k"), true},
				{get("/get/k", base64), true},
				{get("/get/k", resp2), true},
				{get("/get/k", resp2, base64), false},
				{get("/get/none"), true},
				{get("/get/binary"), true},
				{get("/get/binary", base64), true},
				{get("/get/large"), true},
				{get("/get/hash"), true},
				{get("/get/hash", resp2), true},
				{get("/get/k/%2F/x"), true},
				{get("/get/%k"), false},
				{get("/lrange/list/0/-1"), true},
				{get("/lrange/list/0/-1", resp2), true},
				{get("/lrange/list/0/-1", base64), true},
				{get("/hgetall/hash"), true},
				{get("/strlen/k"), true},
				{get("/incr/k"), true},
				{get("/set/s/v?EX=60&_token=x"), true},
				{get("/ping"), true},
				{get("/nosuch/k"), false},
				{get("/flushall"), false},
				{get("/blpop/list/0"), false},
				{get("/client/id"), false},
				{get("/subscribe"), false},
				{get("/set//v"), false},
				{get("/"), false},
				{get("/metrics"), false},
				{get("/healthz/live"), false},
				{get("/v1/keys/k"), false},
				{post("/set/k2", "a value"), true},
				{post("/set/k2", strings.Repeat("v", 5000)), true},
				{post("/set/"+long[:200], "v"), variant.cfg.MaxKey == 0},
				{post("/get/k", ""), true},
				{post("/", `["SET","k3","v"]`), true},
				{post("/", `["GET","k3"]`, resp2), true},
				{post("/", `[["GET","k3"]]`), false},
				{post("/", `["GET",`), false},
				{post("/", ""), false},
				{post("/pipeline", `[["GET","k"]]`), false},
				{post("/multi-exec", `[["GET","k"]]`), false},
				{"DELETE /get/k HTTP/1.1\r\n" + plainHead + variant.header + "\r\n", false},
				{"PUT /set/k4 HTTP/1.1\r\n" + plainHead + variant.header + "Content-Length: 1\r\n\r\nv", true},
				{"PUT /set?key=a&value=b HTTP/1.1\r\n" + plainHead + variant.header + "Content-Length: 0\r\n\r\n", false},
				{get("/get?key=k", usual), true},
				{get("/get/k", usual), true},
				{get("/set?key=a&value=b", usual), true},
				{post("/set/k5", "v", usual), true},
				{post("/", `["GET","k5"]`, usual), true},
				{get("/get?key=k", "Origin: http://x\r\n"), false},
				{get("/get?key=k", "Sec-Fetch-Site: cross-site\r\n"), false},
				{get("/get?key=k"), true},
			} {
				// After a request that is not for a loop, a connection may stay with the HTTP
				// server for a while.
				if test.loop {
					quick = dial(t, here)
				}
				before := taken.taken.Load()
				a, b := quick.ask(t, test.raw), slow.ask(t, test.raw)
				if a, b = passing.ReplaceAllString(a, "$1"), passing.ReplaceAllString(b, "$1"); a != b {
					t.Errorf("%.200q:\n on a loop %.400q\nelsewhere %.400q", test.raw, a, b)
				}
				if loop := taken.taken.Load() > before; loop != test.loop {
					t.Errorf("%.200q: on a loop: %v, want %v; %.100q", test.raw, loop, test.loop, a)
				}
			}
			if variant.header != "" {
				raw := strings.Replace(get("/get/k"), variant.header, "", 1)
				if a, b := quick.ask(t, raw), slow.ask(t, raw); passing.ReplaceAllString(a, "") != passing.ReplaceAllString(b, "") || !strings.Contains(a, " 401 ") {
					t.Errorf("without a token: on a loop %q, elsewhere %q", a, b)
				}
			}
		})
	}
}

func TestTheLoopCountsWhatItServes(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	c := dial(t, addr)
	for _, target := range []string{"/get?key=k", "/get?key=none", "/get/k", "/incr/k"} {
		c.ask(t, "GET "+target+" HTTP/1.1\r\n"+plainHead+"\r\n")
	}
	var got []string
	for name, m := range metered(t, server.metrics) {
		switch family, _, _ := strings.Cut(name, " "); family {
		case "holdfast_http_requests_total", "holdfast_http_requests_in_flight", "holdfast_http_connections":
			got = append(got, fmt.Sprintf("%s: %v", name, m.value))
		case "holdfast_http_request_seconds":
			if m.count > 0 {
				got = append(got, fmt.Sprintf("%s: %d", name, m.count))
			}
		}
	}
	want := []string{
		"holdfast_http_connections: 1", "holdfast_http_request_seconds string: 4", "holdfast_http_requests_in_flight: 0",
		"holdfast_http_requests_total string GET 200: 2", "holdfast_http_requests_total string GET 400: 1", "holdfast_http_requests_total string GET 404: 1",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLoopsServeUnixSockets(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	server, taken := counted(t, Config{}, client)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	defer func() { cancel(); <-served }()
	web := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", ln.Addr().String())
	}}}
	for range 3 {
		answer, err := web.Get("http://x/get?key=k")
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(answer.Body); string(body) != "v" {
			t.Errorf("%q", body)
		}
		answer.Body.Close()
	}
	if taken.taken.Load() != 3 {
		t.Errorf("%d on loops", taken.taken.Load())
	}
}
