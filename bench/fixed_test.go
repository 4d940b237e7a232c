//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/web"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
)

// serving serves until the test ends, and returns the address.
func serving(t *testing.T, serve func(context.Context, net.Listener) error) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// responseTo returns the bytes of the response to a request.
func responseTo(t *testing.T, addr, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	r, length := bufio.NewReader(c), 0
	var all strings.Builder
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		all.WriteString(line)
		if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	if _, err := io.CopyN(&all, r, int64(length)); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// The server that a web node is compared with has to send the same bytes.
func TestACeilingAnswersWhatANodeDoes(t *testing.T) {
	master := redistest.Start(t, 0, 0).Nodes[0]
	master.Do("SET", "k", "value")
	client, err := redis.New(redis.Config{Address: master.Addr, Username: redistest.Username, Password: redistest.Password})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	if _, err := client.Spec(t.Context(), redis.Command{"GET"}); err != nil {
		t.Fatal(err)
	}
	server := web.New(web.Config{Node: "web-1"}, client)
	node := serving(t, func(ctx context.Context, ln net.Listener) error { return server.Serve(ctx, ln) })

	fixed := fixedServer{Value: func([]byte) []byte { return []byte("value") }}
	for _, f := range response.CommonHeaders([]byte("web-1")) {
		fixed.Fields = append(fixed.Fields, [2]string{string(f[0]), string(f[1])})
	}
	ceiling := serving(t, fixed.Serve)

	date := regexp.MustCompile(`Date: [^\r]*`)
	for _, extra := range []string{"", "Holdfast-Read: cached\r\n"} {
		ask := func(addr string) string {
			return date.ReplaceAllString(responseTo(t, addr, "GET /get?key=k HTTP/1.1\r\nHost: x\r\n"+extra+"\r\n"), "Date: then")
		}
		redistest.Eventually(t, 5*time.Second, "the node answers from where it is asked to", func() bool {
			return strings.Contains(ask(node), extra)
		})
		if got, want := ask(ceiling), ask(node); got != want {
			t.Errorf("%q, and a node %q", got, want)
		}
	}
}

// BenchmarkFixed measures what a fixed value costs a loop, beside BenchmarkRemembered in package web.
func BenchmarkFixed(b *testing.B) {
	value := []byte(strings.Repeat("v", 100))
	h := fixedHandler{httpfast.NewResponseHead(response.CommonHeaders([]byte("web-1"))), func([]byte) []byte { return value }}
	f := &eventloop.Pending{Memory: &eventloop.Memory{Now: time.Now()}}
	raw := []byte("GET /get?key=v100-1 HTTP/1.1\r\nHost: localhost\r\nHoldfast-Read: cached\r\n\r\n")
	var q httpfast.Request
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		if !q.Parse(raw) {
			b.Fatal("not simple")
		}
		out, _ = h.Respond(f, &q, out[:0])
	}
}
