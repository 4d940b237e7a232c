package plan

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
	"holdfast/internal/token"
)

// flaky serves an application's node on a port of its own, and records the requests. While dies or
// resets is set it drops each request after it has read it: dies closes the connection, and resets
// ends it with a reset, as the kernel does for a process that is killed with unread data.
type flaky struct {
	dies, resets atomic.Bool
	// holds makes it answer 503, as a node does that has waited in vain for a master.
	holds atomic.Bool
	// hangs makes it stop answering, also to health checks.
	hangs atomic.Bool
	// source is the secret of the stack that the node belongs to; nil: it does not show one.
	source atomic.Pointer[string]

	mu   sync.Mutex
	seen []*http.Request
}

func (f *flaky) serve(t *testing.T) int {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.note(r)
		if f.hangs.Load() {
			io.Copy(io.Discard, r.Body) // so that the end of the connection is noticed
			<-r.Context().Done()
			return
		}
		if strings.HasPrefix(r.URL.Path, "/healthz/") {
			if source := f.source.Load(); source != nil {
				w.Header().Set(token.ResponseHeader, token.Response(*source, r.Header.Get(token.ChallengeHeader)))
			}
			return
		}
		io.Copy(io.Discard, r.Body)
		if f.resets.Load() {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
			return
		}
		if f.dies.Load() {
			panic(http.ErrAbortHandler)
		}
		if f.holds.Load() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "it was not executed", http.StatusServiceUnavailable)
			return
		}
		if d, err := time.ParseDuration(r.URL.Query().Get("sleep")); err == nil {
			time.Sleep(d)
		}
		if n, err := strconv.Atoi(r.URL.Query().Get("events")); err == nil {
			for range n { // send the time at which each event is sent, with pauses between them
				fmt.Fprintln(w, time.Now().UnixNano())
				http.NewResponseController(w).Flush()
				time.Sleep(300 * time.Millisecond)
			}
			return
		}
		fmt.Fprint(w, "answered")
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).Port
}

// note records a request, unless it is a health check.
func (f *flaky) note(r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/healthz/") {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.seen = append(f.seen, r)
	}
}

// take returns the requests since the last take.
func (f *flaky) take() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

// httpStack returns a stack without Redis, on a free entry port, with the two kinds of application
// whose requests are retried.
func httpStack(t *testing.T) stack.Stack {
	s := base()
	s.Entry.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	s.Redis = stack.Redis{}
	other := s.Apps["web"]
	other.KV, other.Command = nil, []string{"x"}
	s.Apps["other"] = other
	s.Routes = []stack.Route{
		{PathPrefix: []string{"/other"}, App: "other"},
		{PathSuffix: []string{".OTHER"}, Host: []string{"Other.Example"}, App: "other"},
		{App: "web"},
	}
	return s
}

func TestARequestIsSentAgainOnlyWhereThatIsSafe(t *testing.T) {
	good, bad := &flaky{}, &flaky{}
	bad.dies.Store(true)
	goodPort, badPort := good.serve(t), bad.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{
		"web-1": badPort, "web-2": goodPort, "other-1": badPort, "other-2": goodPort,
	})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	good.take()
	bad.take()

	for i, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		bad.resets.Store(i%2 == 1)
		for range 4 { // each node takes its turn
			if err := c.request(method, "/set?key=a", "value", nil).is(200); err != nil {
				t.Errorf("web: %s: %v", method, err)
			}
		}
	}
	// Both tries of a request have the same key, and no two requests have the same.
	keys := map[string]int{}
	for _, r := range append(good.take(), bad.take()...) {
		keys[r.Header.Get("Holdfast-Attempt")]++
		if seconds, err := strconv.ParseInt(r.Header.Get("Holdfast-Received"), 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
			t.Errorf("Holdfast-Received is %q, want the time", r.Header.Get("Holdfast-Received"))
		}
	}
	twice := 0
	for key, n := range keys {
		if len(key) < 36 || n > 2 {
			t.Errorf("%d requests with key %q", n, key)
		}
		if n == 2 {
			twice++
		}
	}
	if len(keys) != 16 || twice == 0 {
		t.Errorf("%d keys of which %d were sent twice; want 16 and some", len(keys), twice)
	}
	// The client's own key is kept.
	// What only balancers may claim is not believed when a client sends it.
	sent := map[string]string{"Idempotency-Key": "mine", "Holdfast-Attempt": "forged", "Holdfast-Received": "1"}
	if err := c.request("GET", "/", "", sent).is(200); err != nil {
		t.Error(err)
	}
	for _, r := range append(good.take(), bad.take()...) {
		if keys := r.Header.Values("Idempotency-Key"); len(keys) != 1 || keys[0] != "mine" {
			t.Errorf("keys %q, want the client's", keys)
		}
		for _, name := range []string{"Holdfast-Attempt", "Holdfast-Received"} {
			if values := r.Header.Values(name); len(values) != 1 || values[0] == sent[name] {
				t.Errorf("%s is %q, want the balancer's", name, values)
			}
		}
	}

	for range 4 {
		if err := c.get("/other").is(200); err != nil {
			t.Errorf("other: GET: %v", err)
		}
	}
	for _, r := range append(good.take(), bad.take()...) {
		if r.Header.Get("Holdfast-Attempt") != "" {
			t.Error("a user's program was given a Holdfast-Attempt")
		}
	}
	failed := 0
	for range 4 {
		if c.request("POST", "/other", "x", nil).is(200) != nil {
			failed++
		}
	}
	if tries := len(good.take()) + len(bad.take()); tries != 4 || failed == 0 {
		t.Errorf("4 POSTs to a user's program were tried %d times, %d failed; want 4 tries and some failures", tries, failed)
	}
}

func TestRoutesIgnoreCaseAndHostsNarrowThem(t *testing.T) {
	web, other := &flaky{}, &flaky{}
	webPort, otherPort := web.serve(t), other.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{
		"web-1": webPort, "web-2": webPort, "other-1": otherPort, "other-2": otherPort,
	})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	for _, try := range []struct {
		path, host string
		want       *flaky
	}{
		{"/", "", web},
		{"/other/x", "", other},
		{"/OTHER", "", other},
		{"/x.other", "", web},
		{"/x.other", "other.example", other},
		{"/x.other", "OTHER.example:8080", other},
		{"/x.other", "not-other.example", web},
		{"/x", "other.example", web},
		{"/web-applications", "", web},
	} {
		web.take()
		other.take()
		header := map[string]string{}
		if try.host != "" {
			header["Host"] = try.host
		}
		if err := c.request("GET", try.path, "", header).is(200); err != nil {
			t.Error(err)
		}
		if len(try.want.take()) != 1 {
			t.Errorf("%s of host %q went elsewhere", try.path, try.host)
		}
	}
	for _, path := range []string{"/web-app", "/web-app;csv", "/web-app?x=1"} {
		if r := c.get(path); r.is(200) != nil || !strings.Contains(r.body, "entry.statistics") {
			t.Errorf("%s is not the statistics page: %v", path, r.is(200))
		}
	}
}

func TestAStoppingBalancerAnswersWhatIsInFlight(t *testing.T) {
	web := &flaky{}
	port := web.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	// A client has an idle connection while the balancer stops.
	idle := &http.Client{Transport: &http.Transport{}}
	ask := func() (*http.Response, error) {
		r, err := idle.Get(c.plan.EntryURL + "/idle")
		if err == nil {
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		return r, err
	}
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}

	web.take()
	slow := make(chan error, 1)
	go func() { slow <- c.get("/slow?sleep=1s").is(200) }()
	eventually(t, 5*time.Second, func() error {
		if len(web.take()) == 0 {
			return errors.New("the slow request has not arrived")
		}
		return nil
	})
	p, cmd := c.process("balancer-1"), c.running["balancer-1"]
	begun := time.Now()
	eventually(t, 5*time.Second, func() error {
		// HAProxy's master executes itself anew once its worker serves. A signal at that moment is
		// lost, so the test repeats it.
		if err := cmd.Process.Signal(unix.SignalNum(p.StopSignal)); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", p.Address)
		if err == nil {
			conn.Close()
			return errors.New("it still listens")
		}
		return nil
	})
	if r, err := ask(); err != nil {
		t.Errorf("the idle client's next request: %v", err)
	} else if !r.Close {
		t.Error("the idle client was not told that its connection ends")
	}
	if err := <-slow; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(p.Grace - time.Since(begun)):
		t.Errorf("it did not end within %v", p.Grace)
	}
	t.Logf("it ended after %v", time.Since(begun))
}

func TestAHungNodesRequestsGoToAnother(t *testing.T) {
	hung, well := &flaky{}, &flaky{}
	s := httpStack(t)
	app := s.Apps["web"]
	app.Health.Interval, s.Timeouts.Check = 100*time.Millisecond, 100*time.Millisecond
	s.Apps["web"] = app
	port := well.serve(t)
	c := newCluster(t, s, map[string]int{"web-1": hung.serve(t), "web-2": port, "other-1": port, "other-2": port})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error {
		if c.get("/up").is(200) != nil || len(hung.take()) == 0 {
			return errors.New("web-1 gets no requests")
		}
		return nil
	})
	hung.hangs.Store(true)
	begun := time.Now()
	// The request that the hung node has taken is answered, too, by the other node: it is sent
	// again when its connection is cut. The supervisor cuts it once the node is down.
	ended, cut := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(cut)
		for {
			select {
			case <-ended:
				return
			case <-time.After(500 * time.Millisecond):
			}
			if _, err := c.tell("balancer-1", "shutdown sessions server web/web-1"); err != nil {
				t.Error(err)
			}
		}
	}()
	defer func() { close(ended); <-cut }()
	closed := 0
	for range 8 {
		switch err := c.get("/").is(200); {
		case err == nil:
		case strings.Contains(err.Error(), "EOF") && !haproxyIs(t).Resends():
			closed++
		default:
			t.Error(err)
		}
	}
	// Package supervise does not tell a HAProxy to end sessions if its version would close the
	// clients' connections (servers.Server.Resends).
	if (closed == 0) != haproxyIs(t).Resends() {
		t.Errorf("%d requests were closed without an answer by %v", closed, haproxyIs(t))
	}
	if len(hung.take()) == 0 {
		t.Error("the hung node was not asked")
	}
	if waited := time.Since(begun); waited > 5*time.Second {
		t.Errorf("clients waited %v for a hung node", waited)
	}
}

func TestBalancersShareTheEntry(t *testing.T) {
	web := &flaky{}
	port := web.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
	c.start("balancer-1")
	c.start("balancer-2")
	nodes := func() map[string]bool {
		seen := map[string]bool{}
		for range 40 {
			r := c.get("/web-app")
			for _, n := range []string{"balancer-1", "balancer-2"} {
				if strings.Contains(r.body, n) {
					seen[n] = true
				}
			}
		}
		return seen
	}
	eventually(t, 5*time.Second, func() error {
		if seen := nodes(); len(seen) != 2 {
			return fmt.Errorf("only %v answer", seen)
		}
		return nil
	})
	c.kill("balancer-1") // this kills the master; its worker follows
	eventually(t, 5*time.Second, func() error {
		if seen := nodes(); !seen["balancer-2"] || len(seen) != 1 {
			return fmt.Errorf("%v answer", seen)
		}
		return nil
	})
}

type response struct {
	status int
	body   string
	err    error
}

func (r response) is(status int) error {
	if r.err != nil {
		return r.err
	}
	if r.status != status {
		return fmt.Errorf("status %d, want %d: %s", r.status, status, r.body)
	}
	return nil
}

func (c *cluster) get(path string) response { return c.request("GET", path, "", nil) }

// request sends a request to the entry over a connection of its own.
func (c *cluster) request(method, path, body string, header map[string]string) response {
	r, err := http.NewRequest(method, c.plan.EntryURL+path, strings.NewReader(body))
	if err != nil {
		return response{err: err}
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	r.Host = header["Host"]
	return send(r, 10*time.Second)
}

// send sends a request over a connection of its own.
func send(r *http.Request, limit time.Duration) response {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit}
	answer, err := client.Do(r)
	if err != nil {
		return response{err: err}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{status: answer.StatusCode, body: string(text), err: err}
}
