//go:build linux && (amd64 || arm64)

package eventloop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/routes"
)

// longValue is how many bytes make a response long.
const longValue = 64 << 10

// getter answers GET /get?key=K on loops: from Redis, or without a client with "v", and for the key
// "long" with something long. It declines everything else, which the HTTP server then answers with
// "elsewhere".
type getter struct {
	client *redis.Client
	taken  atomic.Int64  // requests that loops answered
	usual  atomic.Int64  // those of them that did not go by a read connection
	making chan struct{} // gets a value when a long response is to be made
	may    chan struct{} // closed when it may be
}

func (h *getter) Wants(q *httpfast.Request) bool {
	return q.Method == routes.Get && string(q.Path) == "/get"
}

func (h *getter) Respond(f *Pending, q *httpfast.Request, out []byte) ([]byte, Progress) {
	key, ok := bytes.CutPrefix(q.Query, []byte("key="))
	if !h.Wants(q) || !ok {
		return out, Declined
	}
	cmd := redis.Command{"GET", string(key)}
	f.Request.Commands = []redis.Command{cmd}
	switch {
	case h.client == nil && string(key) == "long":
		h.taken.Add(1)
		return out, Landed
	case h.client == nil:
		h.taken.Add(1)
		return h.Finish(f, out), Answered
	}
	spec := h.client.Known(cmd)
	if spec == nil {
		return out, Declined
	}
	h.taken.Add(1)
	if f.Board(spec) || !h.Again(f) {
		return out, Underway
	}
	return h.Finish(f, out), Answered
}

func (h *getter) Long(f *Pending) bool { return false }

func (h *getter) value(f *Pending) string {
	switch {
	case h.client != nil && (f.Err != nil || f.Request.Results[0].Err != nil):
		return "an error"
	case h.client != nil:
		return f.Request.Results[0].Reply.Text()
	case f.Request.Commands[0][1] == "long":
		return strings.Repeat("y", longValue+1)
	}
	return "v"
}

func (h *getter) Finish(f *Pending, out []byte) []byte {
	value := h.value(f)
	closing := ""
	if f.Closing {
		closing = "Connection: close\r\n"
	}
	out = fmt.Appendf(out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(value), closing, value)
	f.Request.Release()
	f.Request = redis.Request{}
	f.Renew()
	return out
}

func (h *getter) FinishTo(f *Pending, conn net.Conn) error {
	if h.making != nil {
		h.making <- struct{}{}
		<-h.may
	}
	_, err := conn.Write(h.Finish(f, nil))
	return err
}

func (h *getter) Express(ctx context.Context) (*redis.Express, net.Conn, error) {
	if h.client == nil {
		return nil, nil, errors.ErrUnsupported
	}
	return h.client.Express(ctx)
}

func (h *getter) Answered(int, time.Duration) {}

func (h *getter) Again(f *Pending) bool {
	h.usual.Add(1)
	h.client.Start(&f.Request, f.Started)
	return f.LandedEarly()
}

// manage returns a manager around a handler.
func manage(h Handler, limit int) *Manager {
	return New(HTTPServer(func(ctx *fasthttp.RequestCtx) {
		Serving(ctx.Conn())
		ctx.SetBodyString("elsewhere")
		ctx.SetConnectionClose() // as package web does at the end
	}), h, limit, new(fair.TurnedAway))
}

// listen serves a manager until the test ends, or stop is called.
func listen(t *testing.T, e *Manager) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(ln) }()
	stop = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := e.Shutdown(ctx)
		return errors.Join(err, <-served)
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String(), stop
}

// running returns the loops of a manager that serves.
func (e *Manager) running() []*loop {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loops
}

// caller is a client with one connection, request by request.
type caller struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return &caller{conn, bufio.NewReader(conn)}
}

// answer reads one response, and returns its bytes.
func (c *caller) answer() (string, error) {
	var all strings.Builder
	length := 0
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return all.String(), err
		}
		all.WriteString(line)
		if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			fmt.Sscan(n, &length)
		}
		if line == "\r\n" {
			break
		}
	}
	_, err := io.CopyN(&all, c.r, int64(length))
	return all.String(), err
}

func (c *caller) ask(t *testing.T, raw string) string {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	got, err := c.answer()
	if err != nil {
		t.Fatalf("%.100q: %v after %q", raw, err, got)
	}
	return got
}

// The requests for a loop and for the HTTP server.
const (
	plainHead   = "Host: x\r\nUser-Agent: t\r\n"
	getV        = "GET /get?key=k HTTP/1.1\r\n" + plainHead + "\r\n"
	getLong     = "GET /get?key=long HTTP/1.1\r\n" + plainHead + "\r\n"
	notOnLoop   = "GET /elsewhere HTTP/1.1\r\n" + plainHead + "\r\n"
	goodAnswer  = "HTTP/1.1 200 "
	closingLine = "\r\nConnection: close\r\n"
)

// fromRedis returns a handler that reads from a Redis without replicas.
func fromRedis(t *testing.T, values map[string]string) (*getter, *redistest.Server) {
	t.Helper()
	master := redistest.Start(t, 0, 0).Nodes[0]
	for k, v := range values {
		master.Do("SET", k, v)
	}
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
	return &getter{client: client}, master
}
