//go:build linux && (amd64 || arm64)

package web

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/eventloop"
)

func TestAConnectionGoesToAndFro(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, taken := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	c := dial(t, addr)
	quick := "GET /get?key=k HTTP/1.1\r\n" + plainHead + "\r\n"
	slow := "GET /v1/keys/k HTTP/1.1\r\n" + plainHead + "\r\n"
	rounds := func(n int, requests ...string) (here int64) {
		t.Helper()
		before := taken.taken.Load()
		for i := range n * len(requests) {
			raw := requests[i%len(requests)]
			if got := c.ask(t, raw); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nv") {
				t.Fatalf("%q: %q", raw, got)
			}
		}
		return taken.taken.Load() - before
	}
	// After a while a connection with both kinds of requests is mostly at the HTTP server, because
	// moving costs more than the loop saves.
	if n := rounds(100, quick, slow, slow, quick); n < 5 || n > 40 {
		t.Errorf("%d of 200 simple requests were served on a loop, in between others", n)
	}
	if n := rounds(200, quick); n < 200-64-1 {
		t.Errorf("%d of 200 simple requests were served on a loop", n)
	}
	rounds(1, slow)
	if n := rounds(30, quick); n < 30-4-1 {
		t.Errorf("%d of 30 simple requests were served on a loop, after one that was not", n)
	}
	// Several requests at once, and in pieces, are each answered in order.
	for _, raw := range []string{quick + quick, quick + slow + quick, slow + quick} {
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		for range strings.Count(raw, "GET ") {
			if got, err := c.answer(); err != nil || !strings.HasSuffix(got, "\r\n\r\nv") {
				t.Fatalf("%q: %q, %v", raw, got, err)
			}
		}
	}
	for cut := range quick {
		if _, err := io.WriteString(c, quick[:cut]); err != nil {
			t.Fatal(err)
		}
		if cut%20 == 0 {
			time.Sleep(time.Millisecond) // so that it is read in two parts
		}
		if got := c.ask(t, quick[cut:]); !strings.HasSuffix(got, "\r\n\r\nv") {
			t.Fatalf("cut at %d: %q", cut, got)
		}
	}
	// A connection that moves is counted twice for a moment.
	redistest.Eventually(t, 5*time.Second, "one connection is counted", func() bool { return server.conns.Connections() == 1 })
	c.Close()
	redistest.Eventually(t, 5*time.Second, "none is counted", func() bool { return server.conns.Connections() == 0 })
}

func TestSlowClientsStallNobody(t *testing.T) {
	client, master := single(t)
	// As JSON the value is six times as long, and takes longer to be made.
	const size = 4 << 20
	master.Do("SET", "k", "v")
	master.Do("SET", "huge", strings.Repeat("\x01", size))
	server, _ := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	for range 20 {
		half := dial(t, addr)
		io.WriteString(half, "GET /get?key=k HTTP/1.1\r\nHost:")
	}
	// Redis takes its time to send the long values; the cache has the short one.
	quick := []*caller{dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr)}
	ask := func(n int) {
		if got := quick[n%len(quick)].ask(t, "GET /get?key=k HTTP/1.1\r\nHoldfast-Read: cached\r\n"+plainHead+"\r\n"); !strings.HasSuffix(got, "v") {
			t.Fatal(got)
		}
	}
	for n := range quick {
		ask(n)
	}
	var deaf []*caller
	for range 4 {
		c := dial(t, addr)
		io.WriteString(c, "GET /get/huge HTTP/1.1\r\n"+plainHead+"\r\n")
		deaf = append(deaf, c)
	}
	var longest time.Duration
	for n := range 400 {
		began := time.Now()
		ask(n)
		longest = max(longest, time.Since(began))
		time.Sleep(time.Millisecond)
	}
	t.Logf("the longest took %v", longest) // the time depends on the machine: see the next test
	if longest > 20*time.Second {
		t.Errorf("an answer took %v", longest)
	}
	for _, c := range deaf { // they get the whole response, and are served further
		if got, err := c.answer(); err != nil || len(got) < size {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if got := c.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n"); !strings.HasSuffix(got, "v") {
			t.Fatal(got)
		}
	}
}

// longAnswer is the size of a reply above which its response is made aside: see fasthandler.
const longAnswer = 64 << 10

// held is a handler that makes a long response only when it may.
type held struct {
	eventloop.Handler
	making, may chan struct{}
}

func (h *held) FinishTo(f *eventloop.Pending, conn net.Conn) error {
	h.making <- struct{}{}
	<-h.may
	return h.Handler.FinishTo(f, conn)
}

func TestNobodyWaitsForALongAnswerToBeMade(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	master.Do("SET", "long", strings.Repeat("\x01", longAnswer+1))
	master.Do("RPUSH", "list", "a")
	for range 8 {
		master.Do("EVAL", "for i = 1, 1000 do redis.call('RPUSH', KEYS[1], 'element') end", "1", "list")
	}
	for range 3 { // so that the cache has the key, and the node is known to work
		if err := client.Do(t.Context(), &redis.Request{Commands: []redis.Command{{"GET", "long"}}, Read: redis.ReadCached}); err != nil {
			t.Fatal(err)
		}
	}
	h := &held{making: make(chan struct{}, 16), may: make(chan struct{})}
	server, _ := countedAround(t, Config{}, client, func(fast eventloop.Handler) eventloop.Handler {
		h.Handler = fast
		return h
	})
	addr, stop := listen(t, server)
	var slow []*caller
	for _, raw := range []string{
		"GET /get/long HTTP/1.1\r\n", "GET /get?key=long HTTP/1.1\r\n", "GET /lrange/list/0/-1 HTTP/1.1\r\n",
		"GET /get?key=long HTTP/1.1\r\nHoldfast-Read: cached\r\n", "GET /get?key=long HTTP/1.1\r\nHoldfast-Read: cached\r\n",
	} {
		c := dial(t, addr)
		io.WriteString(c, raw+plainHead+"\r\n")
		select {
		case <-h.making:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q is not long", raw)
		}
		slow = append(slow, c)
	}
	for range runtime.GOMAXPROCS(0) { // one on each loop
		dial(t, addr).ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	time.Sleep(20 * time.Millisecond)
	close(h.may)
	for i, c := range slow { // also at the end of the server
		if got, err := c.answer(); err != nil || !strings.HasPrefix(got, "HTTP/1.1 200 ") || len(got) < longAnswer {
			t.Errorf("%d: %.200q, %v", i, got, err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Where no file descriptor is left, accepted connections are served on.
func TestNoConnectionIsLostForWantOfDescriptors(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	master.Do("SET", "large", strings.Repeat("x", 2<<20))
	server, taken := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	quick, slow := "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n", "GET /v1/keys/k HTTP/1.1\r\n"+plainHead+"\r\n"
	var all []*caller
	for range 4 {
		c := dial(t, addr)
		c.ask(t, quick)
		all = append(all, c)
	}
	var limits syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limits); err != nil {
		t.Fatal(err)
	}
	none := syscall.Rlimit{Cur: 0, Max: limits.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limits) })
	for n := range 40 {
		for _, c := range all {
			raw := []string{quick, slow, quick, "GET /get?key=large HTTP/1.1\r\n" + plainHead + "\r\n"}[n%4]
			if got := c.ask(t, raw); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Fatalf("%.200q", got)
			}
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limits); err != nil {
		t.Fatal(err)
	}
	before := taken.taken.Load()
	for range 140 { // and its connection is back on a loop when there are some again
		all[0].ask(t, quick)
	}
	if taken.taken.Load() == before {
		t.Error("it does not come back to a loop")
	}
}

func TestThereAreNoMoreConnectionsThanAllowed(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{Connections: 4, StreamsPerClient: 4, Streams: 4}, client)
	addr, _ := listen(t, server)
	var all []*stream
	for range 4 {
		all = append(all, openStream(t, addr, "/subscribe/a"))
	}
	if got, _ := dial(t, addr).answer(); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.HasSuffix(got, "limit exceeded") {
		t.Errorf("one too many: %q", got)
	}
	all[0].close()
	master.Do("PUBLISH", "a", "b") // Redis notices at the next message that its client has gone
	redistest.Eventually(t, 15*time.Second, "there is room again", func() bool { master.Do("PUBLISH", "a", "b"); return server.conns.Connections() == 3 })
	dial(t, addr).ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
}

// Many connections at once, on several loops, get their own responses; some break off. The race
// detector watches.
func TestManyConnectionsGetTheirOwnAnswers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	client, _ := single(t)
	server, taken := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	var callers sync.WaitGroup
	for i := range 64 {
		callers.Go(func() {
			c := dial(t, addr)
			for n := range 60 {
				key := fmt.Sprintf("k%d", i)
				value := fmt.Sprintf("%d.%d", i, n)
				raw := "GET /set?key=" + key + "&value=" + value + " HTTP/1.1\r\n" + plainHead + "\r\n"
				if n%10 == 9 {
					io.WriteString(c, strings.Replace(raw, "key=", "key=other-", 1)[:len(raw)-n%3])
					c.Close()
					c = dial(t, addr)
					continue
				}
				if got := c.ask(t, raw); !strings.HasSuffix(got, "OK. We have set "+key+" to be "+value) {
					t.Errorf("%q: %q", raw, got)
					return
				}
				target := []string{"/get?key=" + key, "/get/" + key, "/v1/keys/" + key}[n%3]
				if got := c.ask(t, "GET "+target+" HTTP/1.1\r\n"+plainHead+"\r\n"); !strings.Contains(got, value) {
					t.Errorf("%s after %s: %q", target, value, got)
					return
				}
			}
		})
	}
	callers.Wait()
	if n := taken.taken.Load(); n < 1000 {
		t.Errorf("%d requests were served on loops", n)
	}
}
