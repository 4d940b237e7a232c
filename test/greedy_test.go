package test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client that takes thousands of connections, streams or places for bodies keeps nobody else out:
// neither another token, from its own address or from elsewhere, at the entry, nor a client that
// asks a node directly.
func TestAGreedyClientKeepsNobodyOut(t *testing.T) {
	const greedy, other = "a-token-that-is-greedy", "a-token-of-somebody-else"
	s := newInstance(t, fmt.Sprintf(`
entry: {listen: "127.0.0.1:%d"}
apps:
  web:
    kv:
      limits: {streams: 500}
      tokens:
        - {name: greedy, hash: %x}
        - {name: other, hash: %x}
`, freePort(t), sha256.Sum256([]byte(greedy)), sha256.Sum256([]byte(other))))
	s.must("up", "-d")
	entry := strings.TrimPrefix(s.awaitHealthy().Entry, "http://")
	node := s.node("web-1").Address

	// ask sends a request from an address, and returns the status of the answer.
	ask := func(at, source, path string) (int, error) {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		conn, err := d.Dial("tcp", at)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", path, other)
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0, err
		}
		return r.StatusCode, nil
	}
	const bearer = "Host: a\r\nAuthorization: Bearer " + greedy + "\r\n"
	for _, c := range []struct {
		name, at, sends string
		count           int
		refused         string // status of the answers to some of them
	}{
		{"half a head", entry, "GET / HTTP/1.1\r\nHost: a\r\n", 6100, ""},
		{"half a body", entry, "POST /set/k HTTP/1.1\r\n" + bearer + "Content-Length: 100\r\n\r\nx", 2000, ""},
		{"half of a large body", entry, "POST /set/k HTTP/1.1\r\n" + bearer + "Content-Length: 5000000\r\n\r\n" + strings.Repeat("x", 20000), 200, "503"},
		{"streams", entry, "GET /subscribe/c HTTP/1.1\r\n" + bearer + "\r\n", 2500, "429"},
		{"half a head at a node", node, "GET / HTTP/1.1\r\nHost: a\r\n", 3000, "408"},
		{"streams at a node", node, "GET /v1/keys/k?watch HTTP/1.1\r\n" + bearer + "\r\n", 800, "429"},
	} {
		var held []net.Conn
		for range c.count {
			conn, err := net.DialTimeout("tcp", c.at, 5*time.Second)
			if err != nil {
				t.Fatalf("%s, connection %d: %v", c.name, len(held), err)
			}
			held = append(held, conn)
			if _, err := io.WriteString(conn, c.sends); err != nil {
				t.Fatalf("%s, connection %d: %v", c.name, len(held), err)
			}
		}
		if c.refused != "" {
			s.await(c.name+": some are answered "+c.refused, 20*time.Second, func() bool {
				for i := range held { // the newest are refused first, or the oldest are closed
					conn := held[len(held)-1-i]
					if c.refused == "408" {
						conn = held[i]
					}
					var answer [len("HTTP/1.1 429")]byte
					conn.SetReadDeadline(time.Now().Add(time.Millisecond))
					if n, _ := conn.Read(answer[:]); n > 0 && strings.HasSuffix(string(answer[:n]), c.refused) {
						return true
					}
				}
				return false
			})
		}
		for _, o := range []struct{ at, source, path string }{
			{entry, "127.0.0.1", "/set/k/v"}, {entry, "127.0.0.2", "/set/k/v"}, {entry, "127.0.0.1", "/subscribe/c"},
			{node, "127.0.0.1", "/set/k/v"}, {node, "127.0.0.2", "/subscribe/c"},
		} {
			// In the meantime the machine may be too busy for a health check.
			s.await(fmt.Sprintf("%s: another client's %s at %s from %s", c.name, o.path, o.at, o.source), 15*time.Second, func() bool {
				status, err := ask(o.at, o.source, o.path)
				return err == nil && status == 200
			})
		}
		for _, conn := range held {
			conn.Close()
		}
	}
}
