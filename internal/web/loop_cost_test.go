//go:build linux && (amd64 || arm64)

package web

import (
	"strings"
	"testing"

	"holdfast/internal/redis"
)

// quickly answers a request on a loop that has no connections, again and again.
func quickly(t testing.TB, raw string) (again func() []byte) {
	t.Helper()
	client, master := single(t)
	master.Do("SET", "k", strings.Repeat("v", 100))
	if _, err := client.Spec(t.Context(), redis.Command{"GET"}); err != nil {
		t.Fatal(err)
	}
	server := New(Config{Node: "web-1"}, &replying{Store: client, reply: replyTo(t, client, "GET", "k")})
	l, err := newLoop(server.engine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.poll.Close() })
	bytes := []byte(raw)
	return func() []byte {
		f := l.acquire(nil)
		if !l.request.parse(bytes) {
			t.Fatalf("%q is not simple", raw)
		}
		out, p := server.engine.responder.respond(f, &l.request, l.out[:0])
		if p != answered {
			t.Fatalf("%q: %v", raw, p)
		}
		l.release(f)
		l.out = out
		return out
	}
}

const quickGet = "GET /get?key=k HTTP/1.1\r\n" + plainHead + "Holdfast-Attempt: 1\r\n\r\n"

// The command that goes to Redis, its text and its key are the only memory that
// a request takes: they may outlive it.
func TestTheHotPathTakesNoMoreThanItMust(t *testing.T) {
	for _, test := range []struct {
		raw  string
		most float64
	}{
		{quickGet, 3},
		{"GET /get?key=k HTTP/1.1\r\n" + plainHead + "\r\n", 2},
		{"GET /get/k HTTP/1.1\r\n" + plainHead + "\r\n", 2},
		{"GET /set?key=k&value=v HTTP/1.1\r\n" + plainHead + "\r\n", 2},
	} {
		again := quickly(t, test.raw)
		if n := testing.AllocsPerRun(200, func() { again() }); n > test.most {
			t.Errorf("%.30q: %v allocations", test.raw, n)
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
