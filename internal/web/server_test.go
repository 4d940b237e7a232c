package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/observe"
)

// scripted is a Store whose failures and status a test sets. What a test does
// not set goes on to the Store below, if any.
type scripted struct {
	Store
	mu     sync.Mutex
	last   redis.Request // as it came
	err    error         // what every request fails with
	hold   chan struct{} // closed to let requests go on; nil: they are not held
	held   chan struct{} // gets a value when a request waits
	status *redis.Status
}

func script(below Store) *scripted { return &scripted{Store: below, held: make(chan struct{}, 16)} }

func (m *scripted) Do(ctx context.Context, r *redis.Request) error {
	m.mu.Lock()
	m.last = *r
	err := m.err
	m.mu.Unlock()
	if m.hold != nil {
		m.held <- struct{}{}
		<-m.hold
	}
	if err != nil {
		return err
	}
	return m.Store.Do(ctx, r)
}

// Start, Cached and Known make it a Store for the event loop too.
func (m *scripted) Start(r *redis.Request, done func(error)) {
	go func() { done(m.Do(context.Background(), r)) }()
}

func (m *scripted) Cached([]byte, time.Time) (text string, readable, ok bool) { return }

func (m *scripted) Known(cmd redis.Command) *redis.Spec {
	spec, _ := m.Spec(context.Background(), cmd)
	return spec
}

func (m *scripted) Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error) {
	if m.Store == nil {
		return nil, nil
	}
	return m.Store.Spec(ctx, cmd)
}

func (m *scripted) Status() redis.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status == nil {
		return m.Store.Status()
	}
	return *m.status
}

func (m *scripted) lastRequest() redis.Request { m.mu.Lock(); defer m.mu.Unlock(); return m.last }
func (m *scripted) fail(err error)             { m.mu.Lock(); m.err = err; m.mu.Unlock() }
func (m *scripted) setStatus(s *redis.Status)  { m.mu.Lock(); m.status = s; m.mu.Unlock() }

// single returns a client of a Redis without replicas, and that Redis.
func single(t testing.TB) (*redis.Client, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t, 0, 0).Nodes[0]
	return connect(t, server), server
}

// connect returns another client of a Redis.
func connect(t testing.TB, server *redistest.Server) *redis.Client {
	t.Helper()
	return connectBy(t, redis.Config{Address: server.Addr})
}

// connectBy is connect for a configuration, to which it adds the users.
func connectBy(t testing.TB, cfg redis.Config) *redis.Client {
	t.Helper()
	cfg.Username, cfg.Password = redistest.Username, redistest.Password
	cfg.ScriptUser = &redis.Login{Username: redistest.ScriptUser, Password: redistest.Password}
	cfg.ReadScriptUser = &redis.Login{Username: redistest.ReadScriptUser, Password: redistest.Password}
	client, err := redis.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	redistest.Eventually(t, 5*time.Second, "the client knows the master", func() bool { return client.Status().Master != "" })
	return client
}

// serve serves a store until the test ends. stop ends it before, and returns what Serve returned.
func serve(t *testing.T, store Store) (addr string, server *Server, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = New(Config{Node: "web-1"}, store)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String(), server, stop
}

func request(t *testing.T, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	return roundTrip(t, method, url, "", header)
}

func roundTrip(t *testing.T, method, url, body string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(all)
}

func TestRequests(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	const octets, text = "application/octet-stream", "text/plain; charset=utf-8"
	for _, test := range []struct {
		method, path string
		status       int
		body         string // the whole; "~x": x is in it
		contentType  string
	}{
		{"GET", "/set?key=imooc&value=imooc.com", 200, "OK. We have set imooc to be imooc.com", text},
		{"GET", "/get?key=imooc", 200, "imooc.com", text},
		{"HEAD", "/get?key=imooc", 200, "", text},
		{"POST", "/set?key=imooc&value=posted", 200, "OK. We have set imooc to be posted", text},
		{"GET", "/set?value=1&key=order&more=x", 200, "OK. We have set order to be 1", text},
		{"GET", "/set?key=empty&value=", 200, "OK. We have set empty to be ", text},
		{"GET", "/get?key=empty", 200, "", text},
		{"GET", "/set?key=a%2Bb+c&value=%E4%BD%A0%26", 200, "OK. We have set a+b c to be 你&", text},
		{"GET", "/get?key=a%2bb%20c", 200, "你&", text},
		{"GET", "/set?key=bin&value=%00%ff%0d%0aSet-Cookie:x", 200, "OK. We have set bin to be \x00\xff\r\nSet-Cookie:x", octets},
		{"GET", "/get?key=bin", 200, "\x00\xff\r\nSet-Cookie:x", octets},
		{"GET", "/set?key=%3Cscript%3E&value=x=y", 200, "OK. We have set <script> to be x=y", text},
		{"GET", "/set?key=k", 400, "OOps, the key or value is NULL", text},
		{"GET", "/set?value=v", 400, "OOps, the key or value is NULL", text},
		{"GET", "/set?key=&value=v", 400, "OOps, the key or value is NULL", text},
		{"GET", "/set", 400, "OOps, the key or value is NULL", text},
		{"GET", "/get", 400, "OOps, the key is null", text},
		{"GET", "/get?key", 400, "OOps, the key is null", text},
		{"GET", "/get?key=nobody", 404, "There is no such key.", text},
		{"GET", "/get?key=%zz", 400, "~escape that is none", text},
		{"GET", "/get?key=50%", 400, "~incomplete escape", text},
		{"GET", "/get?key=" + strings.Repeat("k", 64<<10+1), 413, "~too long", text},
		{"GET", "/get?key=" + strings.Repeat("k", httpfast.MaxHeader), 431, "~too large", "application/json"},
		{"PUT", "/set?key=k&value=v", 405, "~GET, POST", text},
		{"HEAD", "/set?key=k&value=v", 405, "", text},
		{"DELETE", "/get?key=k", 405, "~GET, HEAD", text},
		{"GET", "/healthz/nothing", 404, "~/healthz/live", text},
		{"GET", "/healthz/live", 200, "live", text},
		{"GET", "/healthz/ready", 200, "ready", text},
		{"GET", "/healthz/master", 200, `~"master":"` + master.Addr + `"`, "application/json"},
	} {
		t.Run(test.method+" "+test.path[:min(40, len(test.path))], func(t *testing.T) {
			status, header, body := request(t, test.method, "http://"+addr+test.path, nil)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			part, isPart := strings.CutPrefix(test.body, "~")
			if isPart && !strings.Contains(body, part) || !isPart && body != test.body {
				t.Errorf("body %q, want %q", body, test.body)
			}
			if got := header.Get("Content-Type"); got != test.contentType {
				t.Errorf("Content-Type %q, want %q", got, test.contentType)
			}
			if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Holdfast-Node") != "web-1" || header.Get("Server") != "" || header.Get("Set-Cookie") != "" {
				t.Errorf("header %v", header)
			}
			if status == 405 && header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
}

func TestErrorsOfTheStoreBecomeStatuses(t *testing.T) {
	store := script(nil)
	addr, _, _ := serve(t, store)
	for _, test := range []struct {
		kind   redis.Kind
		status int
		text   string
		retry  string
	}{
		{redis.NotExecuted, 503, "was not executed", "1"},
		{redis.Overloaded, 503, "not executed", "1"},
		{redis.Unknown, 504, "outcome is unknown", ""},
		{redis.Invalid, 400, "because", ""},
		{redis.Refused, 409, "because", ""},
		{0, 500, "because", ""},
	} {
		store.fail(&redis.Error{Kind: test.kind, Cause: errors.New("because")})
		for _, path := range []string{"/set?key=k&value=v", "/get?key=k"} {
			status, header, body := request(t, "GET", "http://"+addr+path, nil)
			if status != test.status || !strings.Contains(body, test.text) || header.Get("Retry-After") != test.retry {
				t.Errorf("kind %d, %s: %d %q, Retry-After %q", test.kind, path, status, body, header.Get("Retry-After"))
			}
		}
	}
}

func TestAWriteThatWaitedForAHungNodeIsNotExecuted(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	for _, test := range []struct {
		received string
		want     int
	}{
		{fmt.Sprint(time.Now().Unix()), 200},
		{fmt.Sprint(time.Now().Add(-10 * time.Second).Unix()), 200},
		{fmt.Sprint(time.Now().Add(-30 * time.Second).Unix()), 504},
		{"yesterday", 400},
	} {
		master.Do("FLUSHALL")
		status, _, body := request(t, "GET", "http://"+addr+"/set?key=k&value=v", http.Header{consistency.ReceivedHeader: {test.received}})
		if status != test.want || (master.Do("EXISTS", "k") == "1") != (status == 200) {
			t.Errorf("received %s: %d %q, stored %q; want %d", test.received, status, body, master.Do("GET", "k"), test.want)
		}
	}
	if status, _, body := request(t, "GET", "http://"+addr+"/get?key=k", http.Header{consistency.ReceivedHeader: {"0"}}); status != 404 {
		t.Errorf("a read that came late: %d %q", status, body)
	}
}

func TestTheIdempotencyKeyReachesTheStore(t *testing.T) {
	client, _ := single(t)
	store := script(client)
	addr, _, _ := serve(t, store)
	for _, test := range []struct {
		keys   []string
		status int
	}{
		{[]string{"a b-~"}, 200},
		{[]string{strings.Repeat("k", 255)}, 200},
		{[]string{strings.Repeat("k", 256)}, 400},
		{[]string{""}, 400},
		{[]string{"ä"}, 400},
		{[]string{"a", "b"}, 400},
	} {
		status, _, body := request(t, "GET", "http://"+addr+"/set?key=k&value=v", http.Header{"Idempotency-Key": test.keys})
		if status != test.status {
			t.Errorf("%q: status %d, %s", test.keys, status, body)
		}
		if status == 200 && store.lastRequest().IdempotencyKey != test.keys[0] {
			t.Errorf("%q reached the store as %q", test.keys, store.lastRequest().IdempotencyKey)
		}
	}
	// A balancer's key counts where the client has none, and never equals a client's.
	for _, test := range []struct {
		header http.Header
		want   string
	}{
		{http.Header{"Holdfast-Attempt": {"x"}}, "\nx"},
		{http.Header{"Holdfast-Attempt": {"x"}, "Idempotency-Key": {"mine"}}, "mine"},
	} {
		if status, _, body := request(t, "GET", "http://"+addr+"/set?key=k&value=v", test.header); status != 200 || store.lastRequest().IdempotencyKey != test.want {
			t.Errorf("%v: status %d, %s; the key is %q", test.header, status, body, store.lastRequest().IdempotencyKey)
		}
	}
}

func TestReadiness(t *testing.T) {
	store := script(nil)
	addr, _, _ := serve(t, store)
	for _, test := range []struct {
		name          string
		status        redis.Status
		ready, master int
	}{
		{"at first", redis.Status{Why: "nobody was asked yet"}, 503, 503},
		{"serving", redis.Status{Found: true, Master: "m", Heard: time.Now()}, 200, 200},
		{"a failover", redis.Status{Found: true, Heard: time.Now()}, 200, 503},
		{"cut off", redis.Status{Found: true, Heard: time.Now().Add(-2 * observe.ReachGrace)}, 503, 503},
	} {
		store.setStatus(&test.status)
		if status, _, body := request(t, "GET", "http://"+addr+"/healthz/ready", nil); status != test.ready {
			t.Errorf("%s: ready is %d %s", test.name, status, body)
		}
		if status, _, body := request(t, "GET", "http://"+addr+"/healthz/master", nil); status != test.master {
			t.Errorf("%s: master is %d %s", test.name, status, body)
		}
		if status, _, _ := request(t, "GET", "http://"+addr+"/healthz/live", nil); status != 200 {
			t.Errorf("%s: live is %d", test.name, status)
		}
	}
}

func TestRequestsUnderWayFinishAtTheEnd(t *testing.T) {
	client, _ := single(t)
	store := script(client)
	store.hold = make(chan struct{})
	addr, server, stop := serve(t, store)

	// An idle connection must not keep the server.
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()

	answered := make(chan string, 1)
	go func() {
		status, _, body := request(t, "GET", "http://"+addr+"/set?key=k&value=v", nil)
		answered <- fmt.Sprint(status, " ", body)
	}()
	<-store.held
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	redistest.Eventually(t, 5*time.Second, "the listener is closed", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if !server.draining.Load() {
		t.Error("the server is not draining")
	}
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned %v with a request under way", err)
	default:
	}
	close(store.hold)
	if got := <-answered; got != "200 OK. We have set k to be v" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// The walk-through on the real Redis: what is written through one node is read through another.
func TestTheWalkThroughOnRedis(t *testing.T) {
	client, master := single(t)
	node := func(client *redis.Client) string { addr, _, _ := serve(t, client); return "http://" + addr }
	one, two := node(client), node(connect(t, master))
	if status, _, body := request(t, "GET", one+"/set?key=imooc&value=imooc.com", nil); status != 200 || body != "OK. We have set imooc to be imooc.com" {
		t.Errorf("set: %d %q", status, body)
	}
	if status, _, body := request(t, "GET", two+"/get?key=imooc", nil); status != 200 || body != "imooc.com" {
		t.Errorf("get: %d %q", status, body)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if status, _, _ := request(t, "GET", one+"/set?key=all&value="+url.QueryEscape(string(all)), http.Header{"Idempotency-Key": {"x"}}); status != 200 {
		t.Errorf("set of every byte: %d", status)
	}
	if _, _, body := request(t, "GET", two+"/get?key=all", nil); body != string(all) {
		t.Errorf("every byte came back as %q", body)
	}
}
