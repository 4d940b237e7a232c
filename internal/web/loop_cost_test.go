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
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/httpfast"
)

// lonely is a loop's handler without a loop, and its store, whose replies are there already.
type lonely struct {
	eventloop.Handler
	store   *replying
	pending *eventloop.Pending
	request httpfast.Request
	out     []byte
	boards  bool // requests go by a read connection
}

func alone(t testing.TB) *lonely {
	t.Helper()
	client, master := single(t)
	master.Do("SET", "k", strings.Repeat("v", 100))
	if _, err := client.Spec(t.Context(), redis.Command{"GET"}); err != nil {
		t.Fatal(err)
	}
	store := &replying{Store: client, reply: replyTo(t, client, "GET", "k")}
	l := &lonely{store: store, Handler: New(inStack(t), store).newFastHandler()}
	l.pending = eventloop.NewPending(&eventloop.Memory{Now: time.Now()}, func(*eventloop.Pending) { t.Error("nobody waits for an outcome") })
	l.pending.Board = func(*redis.Spec) bool { return l.boards }
	return l
}

// begin begins to answer a request.
func (l *lonely) begin(t testing.TB, raw []byte, want eventloop.Progress) {
	if !l.request.Parse(raw) {
		t.Fatalf("%q is not simple", raw)
	}
	out, p := l.Respond(l.pending, &l.request, l.out[:0])
	if p != want {
		t.Fatalf("%q: %v", raw, p)
	}
	l.out = out
}

// quickly returns a function that answers a request as on a loop.
func quickly(t testing.TB, raw string) (again func()) {
	t.Helper()
	l, bytes := alone(t), []byte(raw)
	return func() { l.begin(t, bytes, eventloop.Answered) }
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

func TestWhatALaneCarriesTakesNoMemory(t *testing.T) {
	l := alone(t)
	l.boards = true
	result := redis.Result{Reply: l.store.reply}
	for _, raw := range []string{quickGet, "GET /get/k HTTP/1.1\r\n" + plainHead + "\r\n", "GET /hget/k/f HTTP/1.1\r\n" + plainHead + "\r\n"} {
		raw := []byte(raw)
		if n := testing.AllocsPerRun(200, func() {
			l.begin(t, raw, eventloop.Underway)
			l.pending.Request.Results = append(l.pending.Request.Results, result)
			l.out = l.Finish(l.pending, l.out[:0])
		}); n > 0 {
			t.Errorf("%.30q: %v allocations", raw, n)
		}
	}
}

// What a read connection could not answer is asked again in the usual way, which may keep the
// command longer than its request lasts.
func TestACommandThatLeavesTheLoopIsItsOwn(t *testing.T) {
	l := alone(t)
	l.boards = true
	var left [][]redis.Command
	l.store.heard = func(r *redis.Request) { left = append(left, r.Commands) }
	post := func(command string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\n"+plainHead+"Content-Length: %d\r\n\r\n%s", len(command), command)
	}
	for _, raw := range []string{
		"GET /get?key=first HTTP/1.1\r\n" + plainHead + "\r\n", post(`["ZREVRANK"]`),
		"GET /get?key=other HTTP/1.1\r\n" + plainHead + "\r\n", post(`["GETRANGE"]`),
	} {
		l.begin(t, []byte(raw), eventloop.Underway)
		if !l.Again(l.pending) {
			t.Fatal("it is not answered")
		}
		l.out = l.Finish(l.pending, l.out[:0])
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
