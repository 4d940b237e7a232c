package plan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/servers"
)

// kvCluster returns a balancer in front of two web nodes that the test serves.
func kvCluster(t *testing.T, one, two *flaky) *cluster {
	s := httpStack(t)
	s.Timeouts.HTTPRequest = 500 * time.Millisecond
	s.Timeouts.Server = time.Second
	app := s.Apps["web"]
	app.KV.Hold = 0
	app.Health.Interval, app.Health.Fall = 100*time.Millisecond, 2
	s.Apps["web"] = app
	ports := map[string]int{"web-1": redistest.FreePort(t), "web-2": redistest.FreePort(t), "other-1": redistest.FreePort(t), "other-2": redistest.FreePort(t)}
	if one != nil {
		ports["web-1"] = one.serve(t)
	}
	if two != nil {
		ports["web-2"] = two.serve(t)
	}
	c := newCluster(t, s, ports)
	c.start("balancer-1")
	return c
}

// raw sends bytes over a connection of its own, and reads the answer to its end.
func (c *cluster) raw(t *testing.T, parts ...string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", c.process("balancer-1").Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	for _, part := range parts {
		io.WriteString(conn, part)
	}
	return answerOn(t, conn)
}

// answerOn reads the answer on a connection to its end.
func answerOn(t *testing.T, conn net.Conn) (*http.Response, string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Log(err)
		return &http.Response{Status: "no answer", Header: http.Header{}, Body: http.NoBody}, ""
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r, string(body)
}

// isJSON returns an error unless the answer is one of HAProxy's own in the form of a kv.
func isJSON(r *http.Response, body string, status int, words string) error {
	var said struct{ Error string }
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		return fmt.Errorf("%s: %q is no JSON: %w", r.Status, body, err)
	}
	if r.StatusCode != status || !strings.Contains(said.Error, words) || r.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("%s, %s: %q; want %d and %q", r.Status, r.Header.Get("Content-Type"), said.Error, status, words)
	}
	if (status == 503) != (r.Header.Get("Retry-After") != "") {
		return fmt.Errorf("%s with Retry-After %q", r.Status, r.Header.Get("Retry-After"))
	}
	return nil
}

// haproxyIs returns the HAProxy of this machine.
func haproxyIs(t *testing.T) servers.Server {
	t.Helper()
	out, err := exec.Command(program(t, "haproxy"), "-v").Output()
	is, ok := servers.Parse(string(out))
	if err != nil || !ok {
		t.Fatalf("haproxy -v says %q (%v)", out, err)
	}
	return is
}

func TestHAProxysOwnAnswersAreJSON(t *testing.T) {
	one, two := &flaky{}, &flaky{}
	c := kvCluster(t, one, two)
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	const head = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
	check := func(what string, status int, words string, parts ...string) {
		t.Helper()
		if r, body := c.raw(t, parts...); r.StatusCode != 0 || status != 502 || haproxyIs(t).Resends() {
			// HAProxy 3.0 closes the connection when the last try has failed on a connection that
			// was used before.
			if err := isJSON(r, body, status, words); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	check("a body that does not come", 408, "not executed", "POST /"+head+"Content-Length: 100\r\n\r\nabc")
	one.dies.Store(true)
	two.dies.Store(true)
	check("every node dies with it", 502, "unknown", "GET /set?key=a&value=b"+head+"\r\n")
	one.resets.Store(true)
	two.resets.Store(true)
	check("every node resets it", 502, "unknown", "POST /"+head+"Content-Length: 3\r\n\r\nabc")
	one.dies.Store(false)
	two.dies.Store(false)
	one.resets.Store(false)
	two.resets.Store(false)
	check("a node takes too long", 504, "unknown", "GET /?sleep=7s"+head+"\r\n")
	// What is not HTTP gets HAProxy's built-in text, whatever the configuration says.
	for _, bad := range []string{"GARBAGE\r\n\r\n", "GET /" + strings.Repeat("a", 20000) + head + "\r\n"} {
		if r, _ := c.raw(t, bad); r.StatusCode != 400 {
			t.Errorf("%.20q: %s", bad, r.Status)
		}
	}
}

func TestARequestThatReachedNoNodeWasNotExecuted(t *testing.T) {
	c := kvCluster(t, nil, nil)
	eventually(t, 5*time.Second, func() error { return c.get("/web-app").is(200) })
	eventually(t, 5*time.Second, func() error {
		r, body := c.raw(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		return isJSON(r, body, 503, "not executed")
	})
}

func TestARequestThatANodeDiedWithIsNotCalledUnexecuted(t *testing.T) {
	// The first try reaches a node that dies while it has the request, and the next try finds no
	// node at all. HAProxy's 503 would then claim that nothing happened.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpStack(t)
	app := s.Apps["web"]
	app.Health.Path, app.Health.Interval = "", time.Minute
	s.Apps["web"] = app
	port := l.Addr().(*net.TCPAddr).Port
	c := newCluster(t, s, map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
	died := make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				died <- err
				return
			}
			if n, _ := conn.Read(make([]byte, 4096)); n > 0 { // not a health check
				l.Close()
				conn.Close()
				died <- nil
				return
			}
			conn.Close()
		}
	}()
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/web-app").is(200) })
	r, body := c.raw(t, "GET /set?key=a&value=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if err := isJSON(r, body, 504, "unknown"); err != nil {
		t.Error(err)
	}
	if err := <-died; err != nil {
		t.Fatalf("no request came: %v", err)
	}
}

// A node that is cut off may execute a request without being able to answer. The next node has no
// master for the request, and knows nothing of the first try.
func TestANodesRefusalDoesNotSpeakForTheTryBeforeIt(t *testing.T) {
	one, two := &flaky{}, &flaky{}
	c := kvCluster(t, one, two)
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	ask := func() (*http.Response, string) {
		return c.raw(t, "GET /set?key=a&value=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	one.holds.Store(true)
	two.holds.Store(true)
	r, body := ask()
	if r.StatusCode != 503 || !strings.Contains(body, "not executed") || r.Header.Get("Retry-After") == "" {
		t.Errorf("the only try was turned down, and the client gets %s: %s", r.Status, body)
	}
	if got := r.Header.Get("Holdfast-Tries"); got != "" {
		t.Errorf("Holdfast-Tries: %s is the balancer's own affair", got)
	}
	two.holds.Store(false)
	two.dies.Store(true)
	one.take()
	two.take()
	both := 0
	for range 4 { // the nodes take turns
		r, body := ask()
		took, died := len(one.take()), len(two.take())
		switch {
		case died > 0 && took > 0:
			both++
			if err := isJSON(r, body, 504, "unknown"); err != nil {
				t.Errorf("a node died with it before: %v", err)
			}
		case r.StatusCode != 503 && died == 0:
			t.Errorf("the only try was turned down, and the client gets %s: %s", r.Status, body)
		}
	}
	if both == 0 {
		t.Error("no request was tried at both nodes")
	}
}

func TestALargeBodyPassesAndIsSentOnce(t *testing.T) {
	one, two := &flaky{}, &flaky{}
	c := kvCluster(t, one, two)
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	one.take()
	two.take()
	large := string(bytes.Repeat([]byte("x"), 10<<20))
	if err := c.request("POST", "/", large, nil).is(200); err != nil {
		t.Error(err)
	}
	if n := len(one.take()) + len(two.take()); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	one.dies.Store(true)
	two.dies.Store(true)
	if err := c.request("POST", "/", large, nil).is(502); err != nil {
		t.Error(err)
	}
	if n := len(one.take()) + len(two.take()); n != 1 {
		t.Errorf("a node died with it, and it was sent %d times", n)
	}
}

func TestStreamsPassAtOnceLastAndAreNotRepeated(t *testing.T) {
	one, two := &flaky{}, &flaky{}
	c := kvCluster(t, one, two)
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	one.take()
	two.take()
	// Longer than the node (6 s) and the client may otherwise be silent.
	for _, path := range []string{"/v1/keys/a?wait=60&sleep=7s"} {
		if err := c.get(path).is(200); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	r, err := http.Get(c.plan.EntryURL + "/subscribe/news?events=5")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	events := 0
	for lines.Scan() {
		sent, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if late := time.Since(time.Unix(0, sent)); late > 150*time.Millisecond {
			t.Errorf("an event came %v late", late)
		}
		events++
	}
	if events != 5 {
		t.Errorf("%d events, want 5: %v", events, errors.Join(lines.Err()))
	}
	one.take()
	two.take()
	one.dies.Store(true)
	two.dies.Store(true)
	for _, path := range []string{"/subscribe/x", "/PSUBSCRIBE/x*", "/monitor", "/v1/keys/a?watch", "/v1/keys/a?%77atch", "/v1/keys/a?wait=5"} {
		if err := c.get(path).is(502); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if n := len(one.take()) + len(two.take()); n != 1 {
			t.Errorf("%s was sent %d times", path, n)
		}
	}
}
