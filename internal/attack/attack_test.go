package attack

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// asked starts a service and returns a client of it.
func asked(t *testing.T, cfg Config, serve http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	cfg.Entry = server.URL
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestARequestHasWhatItsServiceAsksFor(t *testing.T) {
	var from atomic.Value
	c := asked(t, Config{Token: "secret", Headers: map[string]string{"Holdfast-Drill": "x/app"}, Elsewhere: true}, func(w http.ResponseWriter, r *http.Request) {
		from.Store(r.RemoteAddr)
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Holdfast-Drill") != "x/app" || r.Header.Get("X-More") != "1" {
			w.WriteHeader(http.StatusForbidden)
		}
		w.Write([]byte(r.Method + " " + r.URL.Path + " " + string(body)))
	})
	got := c.Do(t.Context(), Request{Path: "/", Body: Command("SET", `a"\`+"\n", "x"), Header: "X-More: 1\r\n"})
	if !got.OK() || string(got.Body) != `POST / ["SET","a\"\\\u000a","x"]` {
		t.Errorf("%+v %s", got, got.Body)
	}
	if got := c.Do(t.Context(), Request{Path: "/get/x"}); got.Status != 403 || got.OK() || string(got.Body) != "GET /get/x " {
		t.Errorf("%+v %s", got, got.Body)
	}
	if c.dialer.LocalAddr != nil && !strings.HasPrefix(from.Load().(string), "127.66.6.6:") {
		t.Errorf("it comes from %v", from.Load())
	}
	if got := c.Do(t.Context(), Request{Raw: []byte("nonsense\r\n\r\n")}); got.Status != 400 {
		t.Errorf("nonsense: %+v", got)
	}
	var commands [][]string
	if err := json.Unmarshal(Pipeline(3, "GET", "k"), &commands); err != nil || len(commands) != 3 || commands[2][1] != "k" {
		t.Errorf("a pipeline: %v, %v", commands, err)
	}
}

func TestASlowReaderIsSlowAndOneThatLeavesIsCounted(t *testing.T) {
	const size = 8 << 20
	c := asked(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, size))
	})
	all := NewTally()
	c.Repeat(t.Context(), 2, 0, all, func(int) Request { return Request{Path: "/"} })
	if all.Bytes() != 2*size || all.String() != "2 sent: 2 answered 200" {
		t.Errorf("%s, %d bytes", all, all.Bytes())
	}
	left := NewTally()
	c.Repeat(t.Context(), 2, 0, left, func(i int) Request { return Request{Path: "/", Leave: int64(i)*100 - 1} })
	if left.Sent() != 2 || left.Bytes() >= size || left.String() != "2 sent: 2 left by their client" {
		t.Errorf("%s, %d bytes", left, left.Bytes())
	}
	slow := NewTally()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c.Repeat(ctx, 100, 0, slow, func(int) Request { return Request{Path: "/", Rate: 64 << 10} })
	if slow.Sent() != 1 || slow.Bytes() == 0 || slow.Bytes() > 1<<20 || slow.Refused() != 0 {
		t.Errorf("%s, %d bytes", slow, slow.Bytes())
	}
}

func TestWhatIsHeldIsOpenUntilTheEnd(t *testing.T) {
	c := asked(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for name, h := range map[string]struct {
		words    string
		answered bool
		open     int
	}{
		"streams":              {c.Head("GET", "/stream") + "\r\n", true, 20},
		"half-sent requests":   {c.Head("GET", "/stream") + "X-Half: ", false, 20},
		"streams refused":      {c.Head("GET", "/other") + "\r\n", true, 0},
		"streams never served": {c.Head("GET", "/stream") + "X-Half: ", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			held := c.Hold(ctx, 20, h.answered, func(int) []byte { return []byte(h.words) })
			for deadline := time.Now().Add(10 * time.Second); held.Open() != h.open && time.Now().Before(deadline); {
				time.Sleep(5 * time.Millisecond)
			}
			if held.Open() != h.open || held.Opened() < h.open {
				t.Errorf("%d are open, want %d", held.Open(), h.open)
			}
			cancel()
			held.Wait()
			if held.Open() != 0 || held.Most() != h.open {
				t.Errorf("in the end %d are open, %d were at the most", held.Open(), held.Most())
			}
		})
	}
}
