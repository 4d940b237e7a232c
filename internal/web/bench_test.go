package web

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/httpfast"
)

// replying is a Store whose replies are there already, so that only this package is measured.
type replying struct {
	Store
	reply redis.Reply
	heard func(*redis.Request) // if not nil, it gets the requests of Start
}

func (a *replying) Do(_ context.Context, r *redis.Request) error {
	for range r.Commands {
		r.Results = append(r.Results, redis.Result{Reply: a.reply})
	}
	return nil
}

// Start, Cached and Known make it a Store for a loop.
func (a *replying) Start(r *redis.Request, done func(error)) {
	if a.heard != nil {
		a.heard(r)
	}
	_ = a.Do(context.Background(), r)
	done(nil)
}

func (a *replying) Cached([]byte, time.Time) (text string, readable, ok bool) { return }

func (a *replying) Known(cmd redis.Command) *redis.Spec {
	return a.Store.(*redis.Client).Known(cmd)
}

// replyTo returns a reply of a real Redis, because only Redis makes replies.
func replyTo(b testing.TB, client *redis.Client, command ...string) redis.Reply {
	b.Helper()
	r := redis.Request{Commands: []redis.Command{command}}
	if err := client.Do(b.Context(), &r); err != nil {
		b.Fatal(err)
	}
	if r.Results[0].Err != nil {
		b.Fatal(r.Results[0].Err)
	}
	return r.Results[0].Reply
}

// inStack returns the configuration of a stack's node without tokens.
func inStack(t testing.TB) Config {
	return Config{Node: "web-1", InStack: true, Hosts: ownNames(t, "shop.example"), SourceSecret: "secret"}
}

func BenchmarkHandle(b *testing.B) {
	client, master := single(b)
	master.Do("SET", "key", strings.Repeat("x", 100))
	master.Do("SET", "large", strings.Repeat("x", 10_000))
	for _, bench := range []struct{ name, method, uri, body, reply string }{
		{"GET /get/key", "GET", "/get/key", "", "key"},
		{"GET /get?key=key", "GET", "/get?key=key", "", "key"},
		{"POST / GET", "POST", "/", `["GET","key"]`, "key"},
		{"POST / SET", "POST", "/", `["SET","key","` + strings.Repeat("x", 100) + `"]`, "key"},
		{"GET /get/large of 10 kB", "GET", "/get/large", "", "large"},
		{"POST / SET of 10 kB", "POST", "/", `["SET","key","` + strings.Repeat("x", 10_000) + `"]`, "key"},
		{"POST /pipeline of 32", "POST", "/pipeline", "[" + strings.Repeat(`["GET","key"],`, 31) + `["GET","key"]]`, "key"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			store := &replying{Store: client, reply: replyTo(b, client, "GET", bench.reply)}
			s := New(inStack(b), store)
			var ctx fasthttp.RequestCtx
			var request fasthttp.Request
			request.Header.SetMethod(bench.method)
			request.SetRequestURI(bench.uri)
			request.Header.SetHost("127.0.0.1")
			request.Header.Set("User-Agent", "bench")
			request.Header.Set("Authorization", "Bearer secret")
			request.SetBodyString(bench.body)
			ctx.Init(&request, &net.TCPAddr{}, nil)
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				s.handle(&ctx)
			}
			if ctx.Response.StatusCode() != 200 {
				b.Errorf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
			}
		})
	}
}

// BenchmarkRemembered measures what a cache hit costs a loop. What a fixed value costs is
// BenchmarkFixed in package bench.
func BenchmarkRemembered(b *testing.B) {
	client, master := single(b)
	var requests [][]byte
	for i := range 1024 {
		key := "v100-" + strconv.Itoa(i)
		master.Do("SET", key, strings.Repeat("v", 100))
		r := &redis.Request{Commands: []redis.Command{{"GET", key}}, Read: redis.ReadCached}
		for range 2 {
			if err := client.Do(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
		requests = append(requests, []byte("GET /get?key="+key+" HTTP/1.1\r\nHost: localhost\r\nHoldfast-Read: cached\r\n\r\n"))
	}
	h := New(Config{Node: "web-1"}, client).newFastHandler()
	f := &eventloop.Pending{Memory: &eventloop.Memory{Now: time.Now(), Turn: time.Now()}}
	var q httpfast.Request
	var out []byte
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		if !q.Parse(requests[i%1024]) {
			b.Fatal("not simple")
		}
		var p eventloop.Progress
		if out, p = h.Respond(f, &q, out[:0]); p != eventloop.Answered {
			b.Fatal(p)
		}
	}
}
