//go:build linux && (amd64 || arm64)

package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis"
)

// nowhere stands for a connection where there is none.
var nowhere = &loopConn{fd: -1}

// lonely returns a loop without connections, and its store, whose replies are there already.
func lonely(t testing.TB) (*loop, *replying) {
	t.Helper()
	client, master := single(t)
	master.Do("SET", "k", strings.Repeat("v", 100))
	if _, err := client.Spec(t.Context(), redis.Command{"GET"}); err != nil {
		t.Fatal(err)
	}
	store := &replying{Store: client, reply: replyTo(t, client, "GET", "k")}
	l, err := newLoop(New(inStack(t), store).conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.poll.Close() })
	return l, store
}

// quickly returns a function that answers a request on a loop.
func quickly(t testing.TB, raw string) (again func() []byte) {
	t.Helper()
	l, _ := lonely(t)
	bytes := []byte(raw)
	return func() []byte {
		l.lock()
		defer l.unlock()
		f := l.acquire(nowhere)
		if !l.request.Parse(bytes) {
			t.Fatalf("%q is not simple", raw)
		}
		out, p := l.manager.responder.respond(f, &l.request, l.out[:0])
		if p != answered {
			t.Fatalf("%q: %v", raw, p)
		}
		l.release(f)
		l.out = out
		return out
	}
}

const quickGet = "GET /get?key=k HTTP/1.1\r\n" + plainHead + "Holdfast-Attempt: 1\r\nHoldfast-Source: secret/10.1.2.3\r\n\r\n"

// A request allocates only its command for Redis, the command's text and its key, because these may
// outlive the request.
func TestTheHotPathTakesNoMoreThanItMust(t *testing.T) {
	for _, test := range []struct {
		raw  string
		most float64
	}{
		{quickGet, 2},
		{"GET /get?key=k HTTP/1.1\r\n" + plainHead + "\r\n", 2},
		{"GET /get/k HTTP/1.1\r\n" + plainHead + "\r\n", 2},
		{"GET /set?key=k&value=v HTTP/1.1\r\n" + plainHead + "\r\n", 2},
		{"GET /get?key=k HTTP/1.1\r\nHost: Shop.example:80\r\n\r\n", 2},
	} {
		again := quickly(t, test.raw)
		if n := testing.AllocsPerRun(200, func() { again() }); n > test.most {
			t.Errorf("%.30q: %v allocations", test.raw, n)
		}
	}
}

// boarding puts a request into a read connection's batch.
func boarding(t testing.TB, l *loop, raw []byte) *pendingRequest {
	f := l.acquire(nowhere)
	if !l.request.Parse(raw) {
		t.Fatalf("%q is not simple", raw)
	}
	board := f.board
	f.board = func(*redis.Spec) bool { return true }
	if _, p := l.manager.responder.respond(f, &l.request, l.out[:0]); p != pending {
		t.Fatalf("%q: %v", raw, p)
	}
	f.board = board
	return f
}

func TestWhatALaneCarriesTakesNoMemory(t *testing.T) {
	l, store := lonely(t)
	result := redis.Result{Reply: store.reply}
	for _, raw := range []string{quickGet, "GET /get/k HTTP/1.1\r\n" + plainHead + "\r\n", "GET /hget/k/f HTTP/1.1\r\n" + plainHead + "\r\n"} {
		raw := []byte(raw)
		if n := testing.AllocsPerRun(200, func() {
			l.lock()
			defer l.unlock()
			f := boarding(t, l, raw)
			f.request.Results = append(f.request.Results, result)
			l.out = l.manager.responder.finish(f, l.out[:0])
			l.release(f)
		}); n > 0 {
			t.Errorf("%.30q: %v allocations", raw, n)
		}
	}
}

// What a read connection could not answer is asked again in the usual way, which may keep the
// command longer than its request lasts.
func TestACommandThatLeavesTheLoopIsItsOwn(t *testing.T) {
	l, store := lonely(t)
	var left [][]redis.Command
	store.heard = func(r *redis.Request) { left = append(left, r.Commands) }
	l.lock()
	defer l.unlock()
	post := func(command string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\n"+plainHead+"Content-Length: %d\r\n\r\n%s", len(command), command)
	}
	for _, raw := range []string{
		"GET /get?key=first HTTP/1.1\r\n" + plainHead + "\r\n", post(`["ZREVRANK"]`),
		"GET /get?key=other HTTP/1.1\r\n" + plainHead + "\r\n", post(`["GETRANGE"]`),
	} {
		f := boarding(t, l, []byte(raw))
		if !l.manager.responder.again(f) {
			t.Fatal("it is not answered")
		}
		l.out = l.manager.responder.finish(f, l.out[:0])
		l.release(f)
	}
	want := []redis.Command{{"GET", "first"}, {"ZREVRANK"}, {"GET", "other"}, {"GETRANGE"}}
	for i, commands := range left {
		if len(commands) != 1 || !slices.Equal(commands[0], want[i]) {
			t.Errorf("%q, want %q", commands, want[i])
		}
	}
}

func BenchmarkLoop(b *testing.B) {
	again := quickly(b, quickGet)
	b.ReportAllocs()
	for b.Loop() {
		again()
	}
}

// BenchmarkWays has requests served on both ways, without a store: requests for a loop, others, and
// both in turn on the same connections, one by one and in runs of 16. The CPU time is that of
// clients and server together.
func BenchmarkWays(b *testing.B) {
	client, master := single(b)
	master.Do("SET", "k", strings.Repeat("v", 100))
	if _, err := client.Spec(b.Context(), redis.Command{"GET"}); err != nil {
		b.Fatal(err)
	}
	store := &replying{Store: client, reply: replyTo(b, client, "GET", "k")}
	const body = `[["GET","k"]]`
	other := fmt.Sprintf("POST /pipeline HTTP/1.1\r\n"+plainHead+"Content-Length: %d\r\n\r\n%s", len(body), body)
	for _, bench := range []struct {
		name     string
		requests []string
	}{
		{"simple", []string{quickGet}},
		{"other", []string{other}},
		{"by turns", []string{quickGet, other}},
		{"16 by turns", append(slices.Repeat([]string{quickGet}, 16), slices.Repeat([]string{other}, 16)...)},
		{"1 in 64", append(slices.Repeat([]string{quickGet}, 63), other)},
	} {
		for _, way := range []struct {
			name  string
			store Store
		}{{"loops and server", store}, {"server alone", struct{ Store }{store}}} {
			b.Run(bench.name+"/"+way.name, func(b *testing.B) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				served := make(chan error, 1)
				go func() { served <- New(Config{}, way.store).Serve(ctx, ln) }()
				defer func() { cancel(); <-served }()
				var clients sync.WaitGroup
				left := atomic.Int64{}
				left.Store(int64(b.N))
				before := used(b)
				b.ResetTimer()
				for range 16 {
					clients.Go(func() {
						conn, err := net.Dial("tcp", ln.Addr().String())
						if err != nil {
							b.Error(err)
							return
						}
						defer conn.Close()
						answer := make([]byte, 4096)
						for n := 0; left.Add(-1) >= 0; n++ {
							io.WriteString(conn, bench.requests[n%len(bench.requests)])
							if got, err := conn.Read(answer); err != nil || !bytes.HasPrefix(answer[:got], []byte("HTTP/1.1 200 ")) {
								b.Errorf("%q, %v", answer[:got], err)
								return
							}
						}
					})
				}
				clients.Wait()
				b.ReportMetric(float64((used(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

// used returns the CPU time of this process.
func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
