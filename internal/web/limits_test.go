package web

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
)

// send sends bytes as they are, and half: then closes the sending half. It returns what comes back
// until the other side closes, and whether it closed.
func send(t *testing.T, addr, raw string, half bool) (answer []byte, closed bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, raw); err == nil && half {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	answer, err = io.ReadAll(conn)
	return answer, err == nil
}

// A request that no proper client sends gets a clear 4xx and its connection is closed. The next
// connection is served.
func TestMalformedRequestsHarmNobody(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	master.Do("SET", "k", "v")
	const host = "Host: x\r\n"
	get := func(header string) string { return "GET /get/k HTTP/1.1\r\n" + host + header + "\r\n" }
	post := func(header, body string) string { return "POST / HTTP/1.1\r\n" + host + header + "\r\n" + body }
	const ping = `["PING"]`
	for _, test := range []struct {
		name, raw string
		status    int // 0: any 4xx or 5xx, or the connection closed
	}{
		// The request line.
		{"no words", "nonsense\r\n\r\n", 400},
		{"a method alone", "GET\r\n\r\n", 400},
		{"no version", "GET /get/k\r\n" + host + "\r\n", 400},
		{"HTTP/0.9", "GET /get/k HTTP/0.9\r\n" + host + "\r\n", 505},
		{"HTTP/1.2", "GET /get/k HTTP/1.2\r\n" + host + "\r\n", 505},
		{"HTTP/2.0", "GET /get/k HTTP/2.0\r\n" + host + "\r\n", 505},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
		{"a version that is none", "GET /get/k HTTX/1.1\r\n" + host + "\r\n", 400},
		{"a version in lower case", "GET /get/k http/1.1\r\n" + host + "\r\n", 400},
		{"two blanks", "GET  /get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a blank in the path", "GET /get/a b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a tab between", "GET\t/get/k\tHTTP/1.1\r\n" + host + "\r\n", 400},
		{"a blank first", " GET /get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"no path", "GET  HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a path without a slash", "GET get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a NUL in the path", "GET /get/\x00 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a control character in the path", "GET /get/\x01 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"DEL in the path", "GET /get/\x7f HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a carriage return in the path", "GET /get/a\rb HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a fragment", "GET /get/k#x HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a method with a colon", "G:T /get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a method with a NUL", "G\x00T /get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a method of lower case", "get /get/k HTTP/1.1\r\n" + host + "\r\n", 405},
		{"a method of its own", "FETCH /get/k HTTP/1.1\r\n" + host + "\r\n", 405},
		{"CONNECT", "CONNECT x:443 HTTP/1.1\r\n" + host + "\r\n", 0},
		{"TRACE", "TRACE / HTTP/1.1\r\n" + host + "\r\n", 405},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 0},
		{"GET *", "GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a scheme that is none", "GET 1:://x/get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"an answer instead", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400},
		{"TLS", "\x16\x03\x01\x00\x05hello", 400},
		{"Redis' own protocol", "*1\r\n$4\r\nPING\r\n", 400},
		{"zeros", strings.Repeat("\x00", 100), 400},
		{"a long line", strings.Repeat("A", 2*httpfast.MaxHeader), 431},
		{"a long path", "GET /get/" + strings.Repeat("a", httpfast.MaxHeader) + " HTTP/1.1\r\n" + host + "\r\n", 431},
		{"a long header", get("X: " + strings.Repeat("a", httpfast.MaxHeader) + "\r\n"), 431},
		{"many headers", get(strings.Repeat("X-Header: value\r\n", 10000)), 431},

		// Escapes.
		{"an escape that is none", "GET /get/%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"half an escape", "GET /get/%4 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"an escape of wide characters", "GET /get/%u0041 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a bad escape in the query", "GET /get/k?%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a bad escape in a value", "GET /get?key=%f HTTP/1.1\r\n" + host + "\r\n", 400},

		// The header.
		{"no host", "GET /get/k HTTP/1.1\r\n\r\n", 400},
		{"two hosts", get(host), 400},
		{"an empty host", "GET /get/k HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"no colon", get("Header\r\n"), 400},
		{"no name", get(": value\r\n"), 400},
		{"a blank before the colon", get("Header : value\r\n"), 400},
		{"a tab before the colon", get("Header\t: value\r\n"), 400},
		{"a blank before the first name", "GET /get/k HTTP/1.1\r\n Host: x\r\n\r\n", 400},
		{"a folded line", get("Header: a\r\n b\r\n"), 400},
		{"a line folded by a tab", get("Header: a\r\n\tb\r\n"), 400},
		{"two hosts, one in the URL", "GET http://y/get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"two hosts, one behind a name", "GET http://x@y/get/k HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a host in the URL alone", "GET http://y/get/k HTTP/1.0\r\n\r\n", 400},
		{"a folded host", "GET /get/k HTTP/1.1\r\nHost:\r\n x\r\n\r\n", 400},
		{"a folded length", post("Content-Length:\r\n 8\r\n", ping), 400},
		{"a NUL in a value", get("Header: a\x00b\r\n"), 400},
		{"a NUL in a name", get("He\x00ader: b\r\n"), 400},
		{"a carriage return in a value", get("Header: a\rb\r\n"), 400},
		{"a control character in a value", get("Header: a\x01b\r\n"), 400},
		{"a line feed alone", "GET /get/k HTTP/1.1\r\nHost: x\nHeader: y\r\n\r\n", 400},
		{"only line feeds", "GET /get/k HTTP/1.1\nHost: x\n\n", 400},
		{"a name with a blank", get("A Header: b\r\n"), 400},
		{"a name in quotes", get("\"Header\": b\r\n"), 400},
		{"a name beyond ASCII", get("Hëader: b\r\n"), 400},
		{"a header that ends early", "GET /get/k HTTP/1.1\r\nHost: x\r\n", 400},
		{"half a header", "GET /get/k HTTP/1.1\r\nHo", 400},

		// Lengths.
		{"a negative length", post("Content-Length: -5\r\n", ping), 400},
		{"a length with a sign", post("Content-Length: +8\r\n", ping), 400},
		{"a length in hexadecimal", post("Content-Length: 0x8\r\n", ping), 400},
		{"a length with a fraction", post("Content-Length: 8.0\r\n", ping), 400},
		{"a length that is none", post("Content-Length: eight\r\n", ping), 400},
		{"an empty length", post("Content-Length:\r\n", ping), 400},
		{"a length with a blank", post("Content-Length: 1 8\r\n", ping), 400},
		{"a list of lengths", post("Content-Length: 8, 8\r\n", ping), 400},
		{"two equal lengths", post("Content-Length: 8\r\nContent-Length: 8\r\n", ping), 400},
		{"two lengths", post("Content-Length: 8\r\nContent-Length: 2\r\n", ping), 400},
		{"two lengths of different case", post("Content-Length: 8\r\ncontent-length: 2\r\n", ping), 400},
		{"a length beyond 64 bits", post("Content-Length: 99999999999999999999\r\n", ping), 400},
		{"a length beyond the limit", post("Content-Length: 99999999\r\n", ""), 413},
		{"a length beyond the body", post("Content-Length: 50\r\n", ping), 400},
		{"a blank before a length's colon", post("Content-Length : 8\r\n", ping), 400},

		// Transfer codings.
		{"a length and chunks", post("Content-Length: 8\r\nTransfer-Encoding: chunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunks and a length", post("Transfer-Encoding: chunked\r\nContent-Length: 8\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunks and a length, smuggled", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\nGET /get/k HTTP/1.1\r\n"+host+"\r\n"), 400},
		{"identity and a length", post("Transfer-Encoding: identity\r\nContent-Length: 8\r\n", ping), 400},
		{"an unknown coding", post("Transfer-Encoding: gzip\r\n", ping), 400},
		{"two codings", post("Transfer-Encoding: gzip, chunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunked in a list twice", post("Transfer-Encoding: chunked, chunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunked before another", post("Transfer-Encoding: chunked, identity\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunked, misspelt", post("Transfer-Encoding: xchunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunked with a control character", post("Transfer-Encoding: \x0bchunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a blank before the coding's colon", post("Transfer-Encoding : chunked\r\n", "8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n8\r\n" + ping + "\r\n0\r\n\r\n", 400},
		{"a chunk's size that is none", post("Transfer-Encoding: chunked\r\n", "zz\r\n"), 400},
		{"a chunk's size with a sign", post("Transfer-Encoding: chunked\r\n", "+8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a chunk's size below 0", post("Transfer-Encoding: chunked\r\n", "-8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a chunk's size with 0x", post("Transfer-Encoding: chunked\r\n", "0x8\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a chunk's size beyond 64 bits", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+ping), 400},
		{"a chunk beyond the limit", post("Transfer-Encoding: chunked\r\n", "7fffffff\r\n"+ping), 413},
		{"a chunk's size that ends by a line feed", post("Transfer-Encoding: chunked\r\n", "8\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a chunk that is too long", post("Transfer-Encoding: chunked\r\n", "4\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a chunk that is too short", post("Transfer-Encoding: chunked\r\n", "9\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a line feed in a chunk's extension", post("Transfer-Encoding: chunked\r\n", "8;a\nb\r\n"+ping+"\r\n0\r\n\r\n"), 400},
		{"a forbidden trailer", post("Transfer-Encoding: chunked\r\n", "8\r\n"+ping+"\r\n0\r\nContent-Length: 5\r\n\r\n"), 400},
		{"half a chunk", post("Transfer-Encoding: chunked\r\n", "8\r\n[\"P"), 400},
		{"no last chunk", post("Transfer-Encoding: chunked\r\n", "8\r\n"+ping+"\r\n"), 0},

		// Bodies.
		{"bad JSON", post("Content-Length: 8\r\n", `["PING"}`), 400},
		{"JSON of 1,000,000 brackets", post("Content-Length: 1000000\r\n", strings.Repeat("[", 1000000)), 400},
		{"JSON of one deep argument", post("Content-Length: 1000007\r\n", `["GET",`+strings.Repeat("[", 1000000)), 400},
		{"JSON that is gzip", post("Content-Encoding: gzip\r\nContent-Length: 10\r\n", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), 400},
	} {
		answer, closed := send(t, addr, test.raw, true)
		status := 0
		if len(answer) > 0 {
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
			if err != nil {
				t.Errorf("%s: %v in %q", test.name, err, answer)
				continue
			}
			status = resp.StatusCode
		}
		if test.status != 0 && status != test.status || status != 0 && (status < 400 || status > 505) || !closed {
			t.Errorf("%s: %d, closed %v, want %d: %.300q", test.name, status, closed, test.status, answer)
		}
		if n := bytes.Count(answer, []byte("\r\nDate: ")); n > 1 {
			t.Errorf("%s: %d answers: %q", test.name, n, answer)
		}
		if status, _, body := call(t, "GET", "http://"+addr+"/get/k", ""); status != 200 || body != `{"result":"v"}` {
			t.Fatalf("after %s a good request got %d %q", test.name, status, body)
		}
	}
}

func TestWhatIsUnusualButProperIsServed(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	master.Do("SET", "k", "v")
	for _, raw := range []string{
		"GET /get/k HTTP/1.0\r\n\r\n",
		"GET http://x/get/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"\r\nGET /get/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /get/k HTTP/1.1\r\nhOST:x\r\ncONNECTION:\tclose \r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\n[\"GE\r\n7\r\nT\",\"k\"]\r\n0\r\nX-Trailer: y\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0011\r\n\r\n[\"GET\",\"k\"]",
		"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n[\"GET\",\"k\"]",
	} {
		answer, _ := send(t, addr, raw, false)
		answer = bytes.TrimPrefix(answer, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer, []byte(`{"result":"v"}`)) {
			t.Errorf("%q was answered with %q", raw, answer)
		}
	}
	// Several requests at once on one connection are answered in order.
	answer, _ := send(t, addr, "GET /get/k HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n[\"PING\"]GET /get HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false)
	if a, b, c := bytes.Index(answer, []byte(`"v"`)), bytes.Index(answer, []byte(`"PONG"`)), bytes.Index(answer, []byte("OOps")); a < 0 || b < a || c < b {
		t.Errorf("three requests at once: %q", answer)
	}
}

func TestLargeBodiesAreRefusedEarlyAndCostNothing(t *testing.T) {
	client, _ := single(t)
	addr, _, _ := serve(t, client)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, chunked := range []bool{false, true} {
		for range 3 {
			body := io.LimitReader(zeros{}, 100<<20)
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/set/k", body)
			if err != nil {
				t.Fatal(err)
			}
			if !chunked {
				req.ContentLength = 100 << 20
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatalf("chunked %v: %v", chunked, err)
			}
			answer, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 413 || !bytes.HasPrefix(answer, []byte(`{"error":"ERR the body is too large`)) {
				t.Errorf("chunked %v: %d %q", chunked, resp.StatusCode, answer)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 120 { // chunks are read up to the limit
		t.Errorf("600 MB that were refused cost %d MB", grown)
	}
	// A client that asks first is told that the body is too large before it sends it.
	answer, _ := send(t, addr, "POST /set/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n", true)
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 413 ")) {
		t.Errorf("asked first: %q", answer)
	}
	// A body within the limit is stored.
	status, _, body := call(t, "POST", "http://"+addr+"/set/k", strings.Repeat("x", 9<<20))
	if status != 200 {
		t.Errorf("9 MB: %d %s", status, body)
	}
	if status, _, body := call(t, "GET", "http://"+addr+"/strlen/k", ""); body != fmt.Sprintf(`{"result":%d}`, 9<<20) {
		t.Errorf("9 MB are %d %s", status, body)
	}
}

func TestBodiesThatNeverComeTakeBoundedMemory(t *testing.T) {
	client, _ := single(t)
	base, server, _ := serveWith(t, Config{SourceSecret: "secret"}, client)
	addr := strings.TrimPrefix(base, "http://")
	const others = 128<<20 - 40<<20 // of all the room that there is for large bodies
	if !server.bodies.Take(new(fasthttp.RequestHeader), "another", others, time.Hour) {
		t.Fatal("another client's bodies have no room")
	}
	var half []net.Conn
	for range 5 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST /set/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\nxxxx")
		half = append(half, conn)
	}
	taken := func() int { return server.bodies.InUse() - others }
	redistest.Eventually(t, 5*time.Second, "three have room", func() bool { return taken() == 30_000_000 })
	large := strings.Repeat("x", 8<<20)
	status, header, body := call(t, "POST", "http://"+addr+"/set/k", large)
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "not executed") {
		t.Errorf("a further large body: %d %s", status, body)
	}
	// Some room is left for others. A client that claims a source without the secret is not another
	// one.
	for source, want := range map[string]int{"secret/10.0.0.1": 200, "other/10.0.0.1": 503, "10.0.0.1": 503} {
		if status, _, body := call(t, "POST", "http://"+addr+"/set/k", large, fair.SourceHeader, source); status != want {
			t.Errorf("a large body from %s: %d %s, want %d", source, status, body, want)
		}
	}
	if status, _, body := call(t, "POST", "http://"+addr+"/set/k", "small"); status != 200 {
		t.Errorf("a small body: %d %s", status, body)
	}
	for _, conn := range half {
		conn.Close()
	}
	redistest.Eventually(t, 5*time.Second, "their room is free", func() bool { return taken() == 0 })
	for range 5 {
		if status, _, body := call(t, "POST", "http://"+addr+"/set/k", strings.Repeat("x", 9<<20)); status != 200 {
			t.Errorf("a large body: %d %s", status, body)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestKeysAreLimited(t *testing.T) {
	client, _ := single(t)
	addr, _, _ := serve(t, client)
	long := strings.Repeat("k", 64<<10+1)
	for body, want := range map[string]int{
		`["SET","` + long + `","v"]`:     413,
		`["MGET","a","` + long + `"]`:    413,
		`["SET","k","` + long + `"]`:     200,
		`["SET","` + long[1:] + `","v"]`: 200,
	} {
		if status, _, answer := call(t, "POST", "http://"+addr+"/", body); status != want {
			t.Errorf("%.20s: %d %.200s, want %d", body, status, answer, want)
		}
	}
}

// events reads server-sent events line by line.
func events(t *testing.T, url string) (next func() string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("%s: %d, Content-Type %q", url, resp.StatusCode, got)
	}
	lines := bufio.NewReader(resp.Body)
	return func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil {
			return "end: " + err.Error()
		}
		return strings.TrimSuffix(line, "\n")
	}, cancel
}

func TestSubscribersHearMessages(t *testing.T) {
	client, master := single(t)
	addr, server, stop := serve(t, client)
	server.streams.Heartbeat = 50 * time.Millisecond
	expect := func(next func() string, want ...string) {
		t.Helper()
		for _, w := range want {
			got := next()
			for got == ":" || got == "" && w != "" { // heartbeats, and the ends of events
				got = next()
			}
			if got != w {
				t.Errorf("heard %q, want %q", got, w)
			}
		}
	}
	if status, _, body := call(t, "GET", "http://"+addr+"/subscribe/", ""); status != 400 {
		t.Errorf("no channel: %d %s", status, body)
	}
	one, _ := events(t, "http://"+addr+"/subscribe/chat,b%2Fc")
	expect(one, "data: subscribe,chat,1", "data: subscribe,b/c,2")
	pattern, _ := events(t, "http://"+addr+"/psubscribe/ch*")
	expect(pattern, "data: psubscribe,ch*,1")
	redistest.Eventually(t, 5*time.Second, "both hear", func() bool { return master.Do("PUBLISH", "chat", "hello") == "2" })
	expect(one, "data: message,chat,hello", "")
	expect(pattern, "data: pmessage,ch*,chat,hello", "")
	if status, _, body := call(t, "POST", "http://"+addr+"/publish/chat", "how\nare\r\nyou, \xff?"); status != 200 || body != `{"result":2}` {
		t.Errorf("publish: %d %s", status, body)
	}
	expect(one, "data: message,chat,how", "data: are", "data: you, \uFFFD?", "")
	// A quiet stream shows that it lives.
	got := one()
	if got != ":" {
		t.Errorf("a quiet stream says %q", got)
	}
	// A drain ends the streams.
	if err := stop(); err != nil {
		t.Errorf("the node's end: %v", err)
	}
	for got = one(); got == ":" || got == ""; got = one() {
	}
	if got != "end: EOF" {
		t.Errorf("after the end: %q", got)
	}
}

// A stream that Redis refuses gets an error and not an empty stream.
func TestAStreamBeginsWhenRedisListens(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	inStack, _, _ := serveWith(t, Config{InStack: true}, client)
	allowed, _, _ := serveWith(t, Config{InStack: true, Allow: []string{"monitor"}}, client)
	for url, want := range map[string]string{
		"http://" + addr + "/monitor": "NOPERM", allowed + "/monitor": "NOPERM",
		inStack + "/monitor": "ERR 'monitor' is not allowed here: it is dangerous to the data or to the server (`kv.allow: [monitor]` in the stack file allows it)",
	} {
		if status, header, body := call(t, "GET", url, ""); status != 400 || !strings.Contains(body, want) || header.Get("Content-Type") != httpfast.JSON {
			t.Errorf("%s: %d %s, want 400 and %s", url, status, body, want)
		}
	}
	master.Do("ACL", "SETUSER", redistest.Username, "+monitor")
	for _, url := range []string{"http://" + addr + "/monitor", allowed + "/monitor"} {
		if next, _ := events(t, url); next() != `data: "OK"` {
			t.Errorf("%s does not begin with OK", url)
		}
	}

	master.Do("ACL", "SETUSER", redistest.Username, "(~nothing -@all)", "clearselectors", "-subscribe")
	if status, _, body := call(t, "GET", "http://"+addr+"/subscribe/c", ""); status != 400 || !strings.Contains(body, "NOPERM") {
		t.Errorf("/subscribe without the right: %d %s", status, body)
	}
}

func TestASubscriberThatDoesNotKeepUpIsDropped(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /subscribe/flood HTTP/1.1\r\nHost: x\r\n\r\n")
	redistest.Eventually(t, 5*time.Second, "it is subscribed", func() bool { return master.Do("PUBLISH", "flood", "x") == "1" })
	// The client reads nothing. Some megabytes wait in the sockets, and no more than feedLimit in
	// the node.
	payload := strings.Repeat("x", 100_000)
	redistest.Eventually(t, 20*time.Second, "it is dropped", func() bool {
		for range 20 {
			if master.Do("PUBLISH", "flood", payload) == "0" {
				return true
			}
		}
		return false
	})
}
