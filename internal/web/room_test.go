//go:build linux && (amd64 || arm64)

package web

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/token"
)

// A client that sends nothing, or not all of a request, keeps nobody out: not even others at its
// own address.
func TestConnectionsThatWaitMakeRoom(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	const limit = 64
	for name, begin := range map[string]string{
		"nothing":              "",
		"a part of a line":     "GET /get?key=",
		"a part of a header":   "GET /get?key=k HTTP/1.1\r\nHost: a\r\n",
		"a part of a body":     "POST /set/k HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
		"a part of a chunk":    "POST /set/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx",
		"one whole request":    "GET /get?key=k HTTP/1.1\r\n" + plainHead + "\r\n",
		"one, and then a part": "GET /get?key=k HTTP/1.1\r\n" + plainHead + "\r\nGET /ge",
		"no HTTP":              "nonsense\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _ := counted(t, Config{Connections: limit}, client)
			addr, _ := listen(t, server)
			kept := dial(t, addr) // it is served, and then idles for a moment
			kept.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
			for range 3 * limit {
				c := dial(t, addr)
				if _, err := io.WriteString(c, begin); err != nil {
					t.Fatal(err)
				}
			}
			redistest.Eventually(t, 5*time.Second, "another is served", func() bool {
				c := dial(t, addr)
				defer c.Close()
				if _, err := io.WriteString(c, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n"); err != nil {
					return false
				}
				got, err := c.answer()
				return err == nil && strings.HasSuffix(got, "\r\n\r\nv")
			})
			// A connection that moves is counted twice for a moment.
			redistest.Eventually(t, 5*time.Second, "no more than the limit are open", func() bool { return server.conns.Connections() <= limit })
			if server.turned.Waiting.Load() == 0 {
				t.Error("none was closed for room")
			}
		})
	}
}

// A client that is cut off for room is told why, if it has sent a part of a request.
func TestAHalfSentRequestIsToldThatItIsLate(t *testing.T) {
	client, _ := single(t)
	server, _ := counted(t, Config{Connections: 4}, client)
	addr, _ := listen(t, server)
	first := dial(t, addr)
	if _, err := io.WriteString(first, "POST /set/k HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if got, err := first.answer(); err != nil || !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("%q, %v", got, err)
		}
	}()
	redistest.Eventually(t, 5*time.Second, "it is cut off", func() bool {
		dial(t, addr) // one more than there is room for
		select {
		case <-answered:
			return true
		default:
			return false
		}
	})
	if _, err := first.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection: %v", err)
	}
}

// One sender has at most half of all streams, of whichever kind.
func TestStreamsAreSharedAmongSenders(t *testing.T) {
	client, _ := single(t)
	set := tokens(t, token.Entry{Name: "one"}, token.Entry{Name: "two"})
	const streams = 16
	ask := func(addr, path string, header ...string) *http.Response {
		c := dial(t, addr)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", path, strings.Join(header, ""))
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	kinds := []string{"/subscribe/c", "/psubscribe/c*", "/v1/keys/k?watch", "/v1/keys?watch&prefix=k"}
	for _, c := range []struct {
		name     string
		cfg      Config
		one, two string
		own      bool // a forged header makes no difference
		most     int
	}{
		{"tokens", Config{Tokens: set, Streams: streams}, "Authorization: Bearer token of one\r\n", "Authorization: Bearer token of two\r\n", false, 8},
		{"addresses that a balancer tells", Config{SourceSecret: "s", Streams: streams}, "Holdfast-Source: s/10.0.0.1\r\n", "Holdfast-Source: s/10.0.0.2\r\n", false, 8},
		{"addresses that nobody tells", Config{SourceSecret: "s", Streams: streams}, "Holdfast-Source: x/10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\n", "Holdfast-Source: s/10.0.0.2\r\n", true, 8},
		{"a number of their own", Config{SourceSecret: "s", Streams: streams, StreamsPerClient: 3}, "Holdfast-Source: s/10.0.0.1\r\n", "Holdfast-Source: s/10.0.0.2\r\n", false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := New(c.cfg, client)
			addr, _ := listen(t, server)
			for i := range c.most {
				if r := ask(addr, kinds[i%len(kinds)], c.one); r.StatusCode != 200 {
					t.Fatalf("stream %d: %s", i, r.Status)
				}
			}
			for _, path := range append(kinds, "/v1/keys/k?wait=30s") {
				r := ask(addr, path, c.one)
				body, err := io.ReadAll(r.Body)
				if err != nil || r.StatusCode != 429 || r.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "close some") {
					t.Errorf("%s beyond the share: %s %s, %v", path, r.Status, body, err)
				}
			}
			if c.own {
				if r := ask(addr, kinds[0], "Holdfast-Source: y/10.0.0.9\r\n"); r.StatusCode != 429 {
					t.Errorf("the same under another name: %s", r.Status)
				}
			}
			if r := ask(addr, kinds[0], c.two); r.StatusCode != 200 {
				t.Errorf("another sender: %s", r.Status)
			}
			if r := ask(addr, "/healthz/live"); r.StatusCode != 200 {
				t.Errorf("health: %s", r.Status)
			}
			if got := server.turned.Streams.Load(); got < 5 {
				t.Errorf("%d streams are counted as turned away", got)
			}
		})
	}
}

// A stream gives its place back however it ends, even one that Redis refuses.
func TestStreamsGiveTheirPlacesBack(t *testing.T) {
	client, master := single(t)
	server := New(Config{Streams: 8}, client)
	addr, _ := listen(t, server)
	for _, path := range []string{"/subscribe/c", "/v1/keys/k?watch", "/v1/keys?watch&prefix=k"} {
		s := openStream(t, addr, path)
		if n := server.places.InUse(); n != 1 {
			t.Errorf("%s takes %d places", path, n)
		}
		s.close()
		redistest.Eventually(t, 25*time.Second, "its place is free", func() bool {
			master.Do("PUBLISH", "c", "x") // the node notices that a client has gone when it sends something
			master.Do("INCR", "k")
			return server.places.InUse() == 0
		})
	}
	if status, _, body := call(t, "GET", "http://"+addr+"/v1/keys/none?wait=1ms", ""); status != 404 {
		t.Errorf("%d %s", status, body)
	}
	many := openStream(t, addr, "/subscribe/"+strings.TrimSuffix(strings.Repeat("c,", 17), ","))
	if n := server.places.InUse(); n != 3 {
		t.Errorf("a stream of %d channels takes %d places", 17, n)
	}
	many.close()
	master.Do("LPUSH", "list", "x")
	if status, _, body := call(t, "GET", "http://"+addr+"/v1/keys/list?watch", ""); status != 409 {
		t.Errorf("%d %s", status, body)
	}
	redistest.Eventually(t, 25*time.Second, "all places are free", func() bool {
		master.Do("PUBLISH", "c", "x")
		return server.places.InUse() == 0
	})
}
