package plan

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// quick makes a stack's balancers notice changes of its nodes fast.
func quick(s stack.Stack) stack.Stack {
	s.Timeouts.HTTPRequest, s.Timeouts.Client = 500*time.Millisecond, 500*time.Millisecond
	s.Timeouts.Server, s.Timeouts.Check = time.Second, 100*time.Millisecond
	for name, app := range s.Apps {
		app.Health.Path, app.Health.Interval, app.Health.Fall = "/healthz/ready", 100*time.Millisecond, 2
		s.Apps[name] = app
	}
	return s
}

// ofAProgram fails the test if an answer to a request for a user's program claims what cannot be
// known, or has the words of a kv.
func ofAProgram(t *testing.T, what string, r *http.Response, body string, status int) {
	t.Helper()
	if r.StatusCode != status || r.Header.Get("Content-Type") != "text/html" || r.Header.Get("Holdfast-Balancer") != "balancer-1" {
		t.Errorf("%s: %s %v: %s; want %d in HTML", what, r.Status, r.Header, body, status)
	}
	for _, words := range []string{"executed", "Idempotency-Key", "web node", "write", "error\":"} {
		if strings.Contains(body, words) {
			t.Errorf("%s: %q has the words of a kv: %s", what, body, words)
		}
	}
	if retry := r.Header.Get("Retry-After"); (retry != "") != (status == 503) || r.Header.Get("Holdfast-Tries") != "" {
		t.Errorf("%s: %s with %v", what, r.Status, r.Header)
	}
	if unknown := strings.Contains(body, "carried out is not known"); (status == 502 || status == 504) && !unknown {
		t.Errorf("%s: %s says %q", what, r.Status, body)
	}
}

func TestAProgramsClientsAreNotToldWhatNobodyKnows(t *testing.T) {
	one, two := &flaky{}, &flaky{}
	onePort, twoPort := one.serve(t), two.serve(t)
	c := newCluster(t, quick(httpStack(t)), map[string]int{"web-1": onePort, "web-2": twoPort, "other-1": onePort, "other-2": twoPort})
	c.start("balancer-1")
	well := func() {
		t.Helper()
		for _, f := range []*flaky{one, two} {
			f.dies.Store(false)
			f.resets.Store(false)
			f.hangs.Store(false)
		}
		eventually(t, 5*time.Second, func() error { return c.get("/other").is(200) })
		eventually(t, 5*time.Second, func() error { return c.get("/").is(200) })
		one.take()
		two.take()
	}
	const head = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
	get, post := "GET /other"+head+"\r\n", "POST /other"+head+"Content-Length: 3\r\n\r\nabc"

	well()
	r, body := c.raw(t, "POST /other"+head+"Content-Length: 100\r\n\r\nabc")
	if r.StatusCode != 408 { // either side may give up first
		r.StatusCode = 504
	}
	ofAProgram(t, "a body that does not come", r, body, r.StatusCode)
	r, body = c.raw(t, "GET /other?sleep=2s"+head+"\r\n")
	ofAProgram(t, "a program that takes too long", r, body, 504)

	for name, fault := range map[string]func(f *flaky){
		"dies": func(f *flaky) { f.dies.Store(true) }, "resets": func(f *flaky) { f.dies.Store(true); f.resets.Store(true) },
	} {
		well()
		fault(one)
		fault(two)
		r, body = c.raw(t, get)
		ofAProgram(t, "GET, and every node "+name, r, body, 502)
		if n := len(one.take()) + len(two.take()); n < 2 {
			t.Errorf("it was sent to %d nodes", n)
		}
		r, body = c.raw(t, post)
		ofAProgram(t, "POST, and every node "+name, r, body, 502)
		if n := len(one.take()) + len(two.take()); n != 1 {
			t.Errorf("a POST was sent to %d nodes", n)
		}
	}
	// The nodes are taken out while they have a request in hand, so that no node is left for the
	// next try.
	well()
	one.hangs.Store(true)
	two.hangs.Store(true)
	r, body = c.raw(t, get)
	ofAProgram(t, "GET, and no node is left", r, body, 504)
	if len(one.take())+len(two.take()) == 0 {
		t.Error("no node took it")
	}
	// Now there is no node at all, which is certain for every request.
	for _, ask := range []string{get, post} {
		eventually(t, 5*time.Second, func() error { return c.get("/other").is(503) })
		r, body = c.raw(t, ask)
		ofAProgram(t, ask[:4]+" without a server", r, body, 503)
		if len(one.take())+len(two.take()) > 0 {
			t.Errorf("%s: 503, and a server had it", ask[:4])
		}
	}
	// A kv in the same stack has its own words.
	eventually(t, 5*time.Second, func() error {
		r, body := c.raw(t, "GET /set?key=a"+head+"\r\n")
		return isJSON(r, body, 503, "not executed")
	})
}

func TestAPOSTThatReachedNoProgramIs503(t *testing.T) {
	s := quick(httpStack(t))
	app := s.Apps["other"]
	app.Health.Path, app.Health.Interval = "", time.Minute // so that the ports count as open
	s.Apps["other"] = app
	one := &flaky{}
	port := one.serve(t)
	c := newCluster(t, s, map[string]int{"web-1": port, "web-2": port})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/").is(200) })
	r, body := c.raw(t, "POST /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	ofAProgram(t, "POST to closed ports", r, body, 503)
}

func TestTheAnswersBeforeARouteIsKnownAreOfTheStacksKind(t *testing.T) {
	kv := base()
	kv.Redis = stack.Redis{}
	mixed := httpStack(t)
	for name, c := range map[string]struct {
		stack stack.Stack
		want  string
	}{"kv alone": {kv, "application/json"}, "kv and a program": {mixed, "text/html"}} {
		b := builder{stack: c.stack, facts: Facts{Ports: map[string]int{}}, nodes: nodes(c.stack, Facts{})}
		d := b.haproxy(ofKind(b.nodes, Balancer)[0])
		if d.Errors.Type() != c.want {
			t.Errorf("%s: %s, want %s", name, d.Errors.Type(), c.want)
		}
		for _, backend := range d.Backends {
			if json := backend.Errors.Type() == "application/json"; json != backend.KV {
				t.Errorf("%s: %s answers in %s", name, backend.Name, backend.Errors.Type())
			}
		}
	}
}

// answeringCluster starts a balancer before two applications, all of whose nodes are at one port.
func answeringCluster(t *testing.T, s stack.Stack, port int) *cluster {
	t.Helper()
	app := s.Apps["web"]
	app.KV.Hold = 0
	s.Apps["web"] = app
	c := newCluster(t, s, map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/other").is(200) })
	eventually(t, 5*time.Second, func() error { return c.get("/").is(200) })
	return c
}

// The form is the one that the client asks for; the words are always the application's.
func TestOwnAnswersHaveTheFormThatTheClientAsksFor(t *testing.T) {
	one := &flaky{}
	port := one.serve(t)
	s := quick(httpStack(t))
	c := answeringCluster(t, s, port)
	const (
		browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
		program = "application/json, text/plain, */*"
	)
	check := func(what string, status int) {
		t.Helper()
		for _, try := range []struct{ path, accept, form string }{
			{"/", "", jsonType}, {"/", "*/*", jsonType}, {"/", program, jsonType}, {"/", browser, htmlType},
			{"/other", "", htmlType}, {"/other", "*/*", htmlType}, {"/other", program, jsonType}, {"/other", browser, htmlType},
			{"/other", "application/vnd.api+JSON", jsonType}, {"/", "TEXT/HTML", htmlType},
		} {
			r, body := c.raw(t, "GET "+try.path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: "+try.accept+"\r\n\r\n")
			words := strings.TrimSuffix(strings.TrimPrefix(body, "<html><body><h1>"), "</h1></body></html>")
			if try.form == jsonType {
				var said struct{ Error string }
				if err := json.Unmarshal([]byte(body), &said); err != nil {
					t.Errorf("%s: %s with %q: %v: %s", what, try.path, try.accept, err, body)
				}
				words = said.Error
			}
			types := r.Header.Values("Content-Type")
			if r.StatusCode != status || len(types) != 1 || types[0] != try.form || strings.ContainsAny(words, "<{") || words == "" {
				t.Errorf("%s: %s with %q: %s %v: %s; want %d and %s", what, try.path, try.accept, r.Status, types, body, status, try.form)
			}
			if ofKV := strings.Contains(words, "write") || strings.Contains(words, "executed"); ofKV != (try.path == "/") {
				t.Errorf("%s: %s with %q has the other application's words: %s", what, try.path, try.accept, words)
			}
		}
	}
	one.dies.Store(true)
	check("every node dies", 502)
	one.dies.Store(false)
	one.hangs.Store(true)
	eventually(t, 5*time.Second, func() error { return c.get("/other").is(503) })
	eventually(t, 5*time.Second, func() error { return c.get("/").is(503) })
	check("no node is there", 503)
	one.hangs.Store(false)
	eventually(t, 5*time.Second, func() error { return c.get("/").is(200) })
	// A node's own answer keeps its type.
	r, _ := c.raw(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: "+browser+"\r\n\r\n")
	if r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("a node's answer is called %s", r.Header.Get("Content-Type"))
	}
}
