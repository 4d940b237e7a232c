package test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// sendRaw sends bytes as they are, closes its sending half, and returns everything that comes back
// until the other side closes. It closes that half only when the answer begins, or when none has
// come for a while: a balancer takes a client that closes it earlier for one that has gone.
func sendRaw(t *testing.T, addr, raw string) (answer []byte, closed bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, sent := io.WriteString(conn, raw)
	in := bufio.NewReader(conn)
	_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = in.Peek(1)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if sent == nil {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	answer, err = io.ReadAll(in)
	timeout, ok := err.(net.Error)
	return answer, !(ok && timeout.Timeout()) // a reset has closed it, too
}

var statusLine = regexp.MustCompile(`HTTP/1\.[01] [0-9]{3} `)

// A request that no proper client sends has to be refused by the balancer or by the node. Where one
// of them sees the end of a request, the other must not see the beginning of the next.
func TestMalformedRequestsThroughTheEntryHarmNobody(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	addr := strings.TrimPrefix(st.Entry, "http://")
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")

	const host = "Host: x\r\n"
	const ping, chunked = `["PING"]`, "8\r\n[\"PING\"]\r\n0\r\n\r\n"
	const smuggled = "GET /set/k/smuggled HTTP/1.1\r\n" + host + "\r\n"
	line := func(text string) string { return text + "\r\n" + host + "\r\n" }
	get := func(header string) string { return "GET /get/k HTTP/1.1\r\n" + host + header + "\r\n" }
	post := func(header, body string) string { return "POST / HTTP/1.1\r\n" + host + header + "\r\n" + body }
	shapes := []struct{ name, raw string }{
		{"no words", "nonsense\r\n\r\n"},
		{"a method alone", "GET\r\n\r\n"},
		{"a version that is none", line("GET /get/k HTTX/1.1")},
		{"HTTP/0.9", line("GET /get/k HTTP/0.9")},
		{"a blank in the path", line("GET /get/a b HTTP/1.1")},
		{"a path without a slash", line("GET get/k HTTP/1.1")},
		{"a NUL in the path", line("GET /get/\x00 HTTP/1.1")},
		{"a method with a NUL", line("G\x00T /get/k HTTP/1.1")},
		{"a method of lower case", line("get /get/k HTTP/1.1")},
		{"a method of its own", line("FETCH /get/k HTTP/1.1")},
		{"TRACE", line("TRACE / HTTP/1.1")},
		{"CONNECT", line("CONNECT x:443 HTTP/1.1")},
		{"TLS", "\x16\x03\x01\x00\x05hello"},
		{"Redis' own protocol", "*1\r\n$4\r\nPING\r\n"},
		{"zeros", strings.Repeat("\x00", 100)},
		{"a long line", strings.Repeat("A", 1<<17)},
		{"a long path", line("GET /get/" + strings.Repeat("a", 1<<17) + " HTTP/1.1")},
		{"a long header", get("X: " + strings.Repeat("a", 1<<17) + "\r\n")},
		{"many headers", get(strings.Repeat("X-Header: value\r\n", 10000))},
		{"an escape that is none", line("GET /get/%zz HTTP/1.1")},
		{"half an escape", line("GET /get/%4 HTTP/1.1")},
		{"a bad escape in the query", line("GET /get/k?%zz HTTP/1.1")},
		{"two hosts", get("Host: y\r\n")},
		{"no colon", get("Header\r\n")},
		{"no name", get(": value\r\n")},
		{"a blank before the colon", get("Header : value\r\n")},
		{"a NUL in a value", get("Header: a\x00b\r\n")},
		{"a NUL in a name", get("He\x00ader: b\r\n")},
		{"a carriage return in a value", get("Header: a\rb\r\n")},
		{"half a header", "GET /get/k HTTP/1.1\r\nHo"},
		{"a negative length", post("Content-Length: -5\r\n", ping)},
		{"a length with a sign", post("Content-Length: +8\r\n", ping)},
		{"a length in hexadecimal", post("Content-Length: 0x8\r\n", ping)},
		{"a length that is none", post("Content-Length: eight\r\n", ping)},
		{"two lengths", post("Content-Length: 8\r\nContent-Length: 2\r\n", ping)},
		{"a length beyond 64 bits", post("Content-Length: 99999999999999999999\r\n", ping)},
		{"a length beyond the limit", post("Content-Length: 99999999\r\n", "")},
		{"a length beyond the body", post("Content-Length: 50\r\n", ping)},
		{"an unknown coding", post("Transfer-Encoding: gzip\r\n", ping)},
		{"two codings", post("Transfer-Encoding: gzip, chunked\r\n", chunked)},
		{"chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", chunked)},
		{"chunked before another", post("Transfer-Encoding: chunked, identity\r\n", chunked)},
		{"chunked, misspelt", post("Transfer-Encoding: xchunked\r\n", chunked)},
		{"a blank before the coding's colon", post("Transfer-Encoding : chunked\r\n", chunked)},
		{"a chunk's size that is none", post("Transfer-Encoding: chunked\r\n", "zz\r\n")},
		{"a chunk's size with a sign", post("Transfer-Encoding: chunked\r\n", "+"+chunked)},
		{"a chunk's size beyond 64 bits", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+ping)},
		{"a chunk that is too long", post("Transfer-Encoding: chunked\r\n", "4\r\n"+ping+"\r\n0\r\n\r\n")},
		{"half a chunk", post("Transfer-Encoding: chunked\r\n", "8\r\n[\"P")},
		{"a request hidden behind a wrong length", post("Content-Length: 8\r\nContent-Length: 0\r\n", ping+smuggled)},
		{"a request hidden behind a misspelt coding", post("Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n", smuggled)},
		{"bad JSON", post("Content-Length: 8\r\n", `["PING"}`)},
		{"JSON of a million brackets", post("Content-Length: 1000000\r\n", strings.Repeat("[", 1000000))},
	}
	for range 2 { // more than a hundred in all
		for _, shape := range shapes {
			answer, closed := sendRaw(t, addr, shape.raw)
			if !closed {
				t.Errorf("%s: the connection stays open: %.300q", shape.name, answer)
			}
			if len(answer) > 0 {
				resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
				gone := err == nil && resp.StatusCode == 504 && bytes.Contains(answer, []byte("closed its side"))
				if err != nil || !gone && (resp.StatusCode < 400 || resp.StatusCode >= 500) && resp.StatusCode != 501 && resp.StatusCode != 505 {
					t.Errorf("%s: %v: %.300q", shape.name, err, answer)
				}
			}
			if n := len(statusLine.FindAll(answer, -1)); n > 1 {
				t.Errorf("%s: %d answers: %.600q", shape.name, n, answer)
			}
			expect(t, st.Entry+"/get?key=k", 200, "v")
		}
	}
	// No node was harmed.
	for _, n := range s.awaitHealthy().Nodes {
		if n.Restarts > 0 {
			t.Errorf("%s was started again", n.Name)
		}
	}
}
