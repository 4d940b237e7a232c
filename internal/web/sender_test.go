package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
)

// askedBy is a Store that keeps whose requests it got.
type askedBy struct {
	*redis.Client
	mu      sync.Mutex
	senders [][2]string // Request.Sender and Request.Client
	started int         // how many of them came from a loop
}

func (a *askedBy) note(r *redis.Request, started int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.senders = append(a.senders, [2]string{r.Sender, r.Client})
	a.started += started
}

// take returns whose requests came since the last take.
func (a *askedBy) take() [][2]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	senders := a.senders
	a.senders = nil
	return senders
}

func (a *askedBy) Do(ctx context.Context, r *redis.Request) error {
	a.note(r, 0)
	return a.Client.Do(ctx, r)
}

func (a *askedBy) Start(r *redis.Request, done func(error)) {
	a.note(r, 1)
	a.Client.Start(r, done)
}

// Slow commands of one sender wait in one line. A client must not choose its line: with another one
// for each request it would get all of Redis' time.
func TestASenderOfSlowCommandsCannotBeForged(t *testing.T) {
	t.Parallel()
	client, _ := single(t)
	if _, err := client.Spec(t.Context(), redis.Command{"GET"}); err != nil {
		t.Fatal(err)
	}
	const secret, none = "a-secret-of-the-stack", "127.0.0.1"
	const balancer = "Holdfast-Source: " + secret
	for _, node := range []struct {
		name    string
		cfg     Config
		senders [][2]string // lines of a header, and whose request it is then
	}{
		{"without a balancer", Config{}, [][2]string{
			{"", none},
			{"X-Forwarded-For: 10.6.6.6\nForwarded: for=10.6.6.6\nX-Real-IP: 10.6.6.6\n", none},
			{"Holdfast-Source: /10.6.6.6\n", none}, // an empty secret is not the secret
		}},
		{"behind balancers", Config{SourceSecret: secret}, [][2]string{
			{balancer + "/10.1.1.1\nX-Forwarded-For: 10.6.6.6\n", "10.1.1.1"},
			{strings.ToLower("Holdfast-Source: ") + secret + "/2001:db8:1:2::\n", "2001:db8:1:2::"},
			{balancer + "/\n", ""}, // a trusted proxy hides its client
			{"", none},
			{"X-Forwarded-For: 10.6.6.6\nX-Forwarded-For: 10.6.6.7\n", none},
			{"X-Forwarded-For: 10.6.6.6\nHoldfast-Attempt: a\nHoldfast-Received: 99999999999\n", none},
			{"Holdfast-Source: another/10.6.6.6\n", none},
			{balancer[:len(balancer)-1] + "/10.6.6.6\n", none},
			{balancer + "x/10.6.6.6\n", none},
			{balancer + "\n", none},
			{"Holdfast-Source: /10.6.6.6\n", none},
			{"Holdfast-Source: 10.6.6.6\n", none},
			{"Holdfast-Source: x/10.6.6.6\nHoldfast-Source: /10.6.6.7\n", none},
		}},
		{"with tokens", Config{SourceSecret: secret, Tokens: tokens(t, token.Entry{Name: "a"})}, [][2]string{
			{"Authorization: Bearer token of a\nX-Forwarded-For: 10.6.6.6\n" + balancer + "/10.1.1.1\n", "a"},
		}},
	} {
		for _, quick := range []bool{true, false} {
			store := &askedBy{Client: client}
			if !quick {
				node.cfg.CORS = []string{"https://a.example"} // so that no request is for a loop
			}
			base, _, stop := serveWith(t, node.cfg, store)
			for _, c := range node.senders {
				header, want := strings.ReplaceAll(c[0], "\n", "\r\n"), c[1]
				for _, r := range slowAndBrief {
					conn := dial(t, strings.TrimPrefix(base, "http://"))
					fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\n%s", r.line, header)
					if r.body != "" {
						fmt.Fprintf(conn, "Content-Length: %d\r\n", len(r.body))
					}
					fmt.Fprintf(conn, "\r\n%s", r.body)
					answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, answer.Body)
					senders := store.take()
					if answer.StatusCode != 200 || len(senders) == 0 && !r.brief {
						t.Errorf("%s: %s with %q: %s, Redis was asked %d times", node.name, r.line, header, answer.Status, len(senders))
					}
					for _, sender := range senders {
						if sender[0] != want && !(r.brief && sender[0] == "") {
							t.Errorf("%s: %s with %q (for a loop: %v) is of %q, want %q", node.name, r.line, header, quick, sender[0], want)
						}
						// Nothing is known of a client that comes by itself, except that it may be
						// a balancer for others.
						if client := strings.TrimPrefix(want, none); sender[1] != client {
							t.Errorf("%s: %s with %q (for a loop: %v) counts as %q, want %q", node.name, r.line, header, quick, sender[1], client)
						}
					}
				}
			}
			stop()
			if (store.started > 0) != quick {
				t.Errorf("%s: %d requests were a loop's", node.name, store.started)
			}
		}
	}
}

// Each request behind a balancer has such an address.
func TestTellingSendersApartCostsNothing(t *testing.T) {
	s := New(inStack(t), &redis.Client{})
	for header, want := range map[string]bool{"secret/10.1.2.3": true, "secret/2001:db8:1:2::": true, "secret/": true, "other/10.1.2.3": false, "": false} {
		line := []byte(header)
		if n := testing.AllocsPerRun(100, func() {
			if address, ok := s.senders.FromBalancer(line); ok != want || ok && address != header[len("secret/"):] {
				t.Errorf("%q tells %q, %v", header, address, ok)
			}
		}); n > 0 {
			t.Errorf("%q: %v allocations", header, n)
		}
	}
	for _, ip := range []string{"10.1.2.3", "2001:db8:1:2:3:4:5:6"} {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}, silent{})
		if n := testing.AllocsPerRun(100, func() {
			if got := s.senders.Sender(&ctx, nil); !strings.HasPrefix(ip, strings.TrimSuffix(got, ":")) {
				t.Errorf("%s counts as %s", ip, got)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", ip, n)
		}
	}
	for i := range 2000 { // more than are kept
		want := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		if got, ok := s.senders.FromBalancer([]byte("secret/" + want)); !ok || got != want {
			t.Fatalf("%q, %v, want %q", got, ok, want)
		}
	}
}

var slowAndBrief = []struct {
	line, body string
	brief      bool // its sender does not matter
}{
	{"GET /hgetall/none", "", false},
	{"POST /", `["BITCOUNT","none"]`, false},
	{"POST /pipeline", `[["GET","none"],["HGETALL","none"]]`, false},
	{"POST /multi-exec", `[["GET","none"]]`, false}, // a transaction takes too many words to be brief
	{"GET /v1/keys", "", false},
	{"GET /hget/none/f", "", true},
	{"POST /pipeline", `[["GET","none"],["PING"]]`, false}, // several commands are not brief either
}
