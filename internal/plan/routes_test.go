package plan

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// routesCluster returns a balancer with routes in front of a kv (web) and a user's program (other).
func routesCluster(t *testing.T, change func(s *stack.Stack), routes ...stack.Route) (c *cluster, web, other *flaky) {
	t.Helper()
	web, other = &flaky{}, &flaky{}
	s := quick(httpStack(t))
	s.Routes = append(routes, stack.Route{App: "web"})
	if change != nil {
		change(&s)
	}
	webPort, otherPort := web.serve(t), other.serve(t)
	c = newCluster(t, s, map[string]int{"web-1": webPort, "web-2": webPort, "other-1": otherPort, "other-2": otherPort})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	if len(s.Apps) > 1 {
		eventually(t, 5*time.Second, func() error {
			if len(c.upServers(t, "other")) < 2 {
				return fmt.Errorf("the program's nodes are not up")
			}
			return nil
		})
	}
	web.take()
	other.take()
	return c, web, other
}

// upServers returns the servers of a backend that are up.
func (c *cluster) upServers(t *testing.T, backend string) (up []string) {
	t.Helper()
	said, err := c.tell("balancer-1", "show stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(said) {
		fields := strings.Split(line, ",")
		if len(fields) > 17 && fields[0] == backend && fields[1] != "BACKEND" && strings.HasPrefix(fields[17], "UP") {
			up = append(up, fields[1])
		}
	}
	return up
}

// routed sends a request line with headers, and returns which node got it, web or other, and what
// it got.
func (c *cluster) routed(t *testing.T, web, other *flaky, line string, headers ...string) (who string, got *http.Request) {
	t.Helper()
	head := line + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	r, body := c.raw(t, head+"\r\n")
	if r.StatusCode != 200 {
		t.Errorf("%s: %s %s", line, r.Status, body)
	}
	for name, f := range map[string]*flaky{"web": web, "other": other} {
		for _, r := range f.take() {
			if got != nil {
				t.Errorf("%s: it was sent twice", line)
			}
			who, got = name, r
		}
	}
	if got == nil {
		t.Fatalf("%s: nobody got it", line)
	}
	return who, got
}

func TestRoutesGoByWholeSegments(t *testing.T) {
	s := stack.Stack{Routes: []stack.Route{
		{PathPrefix: []string{"/set", "/dir/"}, App: "other"},
		{PathBegins: []string{"/plain"}, App: "other"},
		{PathPrefix: []string{"/a/b"}, Host: []string{"b.example"}, App: "other"},
	}}
	c, web, other := routesCluster(t, nil, s.Routes...)
	for path, want := range map[string]string{
		"/set": "other", "/set/": "other", "/set/x": "other", "/SET?x=1": "other", "/set?key=a": "other",
		"/settings": "web", "/set;x": "web", "/set.html": "web", "/set%2Fx": "web", "//set": "web", "/x/set": "web",
		"/dir": "web", "/dir/": "other", "/Dir/x": "other", "/dirs": "web",
		"/plain": "other", "/plainest": "other", "/plain/x": "other", "/plai": "web",
		"/a/b": "web", "/a/b/c": "web",
	} {
		if who, _ := c.routed(t, web, other, "GET "+path); who != want {
			t.Errorf("%s went to %s, want %s", path, who, want)
		}
		// AppAt, which a drill uses, decides as the balancers do.
		if app := (stack.Stack{Routes: append(s.Routes, stack.Route{App: "web"})}).AppAt("GET", "a", path); app != want {
			t.Errorf("AppAt says %s of %s, want %s", app, path, want)
		}
	}
}

func TestRoutesByMethodAndHeader(t *testing.T) {
	c, web, other := routesCluster(t, nil,
		stack.Route{Method: []string{"PUT", "M-SEARCH"}, App: "other"},
		stack.Route{PathPrefix: []string{"/x"}, Header: map[string][]string{"X-Version": {"beta", "2"}, "x-Team": {"a"}}, App: "other"},
	)
	for _, try := range []struct {
		line, headers, want string
	}{
		{"PUT /a", "", "other"},
		{"M-SEARCH /a", "", "other"},
		{"GET /a", "", "web"},
		{"POST /a", "Content-Length: 0", "web"},
		{"GET /x", "X-Version: BETA|X-Team: a", "other"},
		{"GET /x/y", "X-Version: 1, 2|X-Team: A", "other"},
		{"GET /x", "X-Version: beta", "web"},
		{"GET /x", "X-Version: betas|X-Team: a", "web"},
		{"GET /y", "X-Version: beta|X-Team: a", "web"},
	} {
		if who, _ := c.routed(t, web, other, try.line, strings.Split(try.headers+"|X: y", "|")...); who != try.want {
			t.Errorf("%s with %s went to %s, want %s", try.line, try.headers, who, try.want)
		}
	}
}

func TestAPrefixIsTakenOffOnTheWay(t *testing.T) {
	c, web, other := routesCluster(t, func(s *stack.Stack) { s.Entry.TrustedProxies = []string{"127.0.0.1"} },
		stack.Route{PathPrefix: []string{"/shop", "/shop/deep", "/a,b%20c/"}, StripPrefix: true, App: "other"},
		stack.Route{PathPrefix: []string{"/kv"}, StripPrefix: true, App: "web"},
		stack.Route{PathPrefix: []string{"/kept"}, App: "other"},
	)
	for _, try := range []struct {
		path, want, prefix string
	}{
		{"/shop", "/", "/shop"},
		{"/shop/", "/", "/shop"},
		{"/shop?a=/shop/b&c=?", "/?a=/shop/b&c=?", "/shop"},
		{"/SHOP/Cart?x=1", "/Cart?x=1", "/shop"},
		{"/shop/shop/x", "/shop/x", "/shop"},
		{"/shop/kv/x", "/kv/x", "/shop"},
		{"/shop/web-app", "/web-app", "/shop"}, // not HAProxy's statistics
		{"/shop/deep/x", "/x", "/shop/deep"},
		{"/shop/deeper", "/deeper", "/shop"},
		{"/a,b%20c/x", "/x", "/a,b%20c"},
		// Some programs take a path that begins with two slashes for a host name.
		{"/shop//evil.example/x", "/evil.example/x", "/shop"},
		{"/shop///", "/", "/shop"},
		{"/shop/a//b", "/a//b", "/shop"},
		// Nothing else is normalized: an application cannot be made to leave its own root.
		{"/shop/../kv/x", "/../kv/x", "/shop"},
		{"/shop/%2e%2e/a%2Fb%5c", "/%2e%2e/a%2Fb%5c", "/shop"},
		{"/shop/./a;b=c", "/./a;b=c", "/shop"},
		{"http://localhost/shop/x?y", "http://localhost/x?y", "/shop"},
		{"/kept/x", "/kept/x", ""},
	} {
		who, got := c.routed(t, web, other, "GET "+try.path)
		if prefix := got.Header.Get("X-Forwarded-Prefix"); who != "other" || got.RequestURI != try.want || prefix != try.prefix {
			t.Errorf("%s reached %s as %s with the prefix %q, want %s and %q", try.path, who, got.RequestURI, prefix, try.want, try.prefix)
		}
	}
	// A proxy in front may have removed a prefix of its own.
	if _, got := c.routed(t, web, other, "GET /shop/x", "X-Forwarded-Prefix: /outer"); got.Header.Get("X-Forwarded-Prefix") != "/outer/shop" {
		t.Errorf("behind a prefix of a trusted proxy it is %q", got.Header.Get("X-Forwarded-Prefix"))
	}
	for path, want := range map[string]string{"/kv": "/", "/kv/get/shop?a=b": "/get/shop?a=b", "/kv/shop/x": "/shop/x", "/shopping": "/shopping", "/kvs": "/kvs"} {
		if who, got := c.routed(t, web, other, "GET "+path); who != "web" || got.RequestURI != want {
			t.Errorf("%s reached %s as %s, want web and %s", path, who, got.RequestURI, want)
		}
	}
}

func TestAClientNamesNoPrefix(t *testing.T) {
	c, web, other := routesCluster(t, nil, stack.Route{PathPrefix: []string{"/shop"}, StripPrefix: true, App: "other"})
	if _, got := c.routed(t, web, other, "GET /shop/x", "X-Forwarded-Prefix: /evil", "X_Forwarded_Prefix: /evil"); fmt.Sprint(got.Header["X-Forwarded-Prefix"], got.Header["X_forwarded_prefix"]) != "[/shop] []" {
		t.Errorf("the program is told the prefix %v", got.Header)
	}
}

// Streams and long polls of a kv below a prefix may last as long as those at the root, and take no
// place of a request.
func TestStreamsUnderAPrefixTakeNoPlace(t *testing.T) {
	c, web, _ := routesCluster(t, func(s *stack.Stack) {
		app := s.Apps["web"]
		app.KV.Hold = 0
		s.Apps["web"] = app
		s.Entry.Log = "all"
	}, stack.Route{PathPrefix: []string{"/kv"}, StripPrefix: true, App: "web"})
	for _, path := range []string{"/kv/subscribe/x", "/KV/Monitor", "/kv/v1/keys/a?watch", "/kv//psubscribe/x", "/kv/healthz/x"} {
		if err := c.get(path).is(200); err != nil {
			t.Error(err)
		}
	}
	// This is longer than timeouts.server and hold together (6 s).
	if err := c.get("/kv/v1/keys/a?wait=60&sleep=6500ms").is(200); err != nil {
		t.Errorf("a long poll: %v", err)
	}
	web.dies.Store(true)
	web.take()
	if err := c.get("/kv/subscribe/x").is(502); err != nil {
		t.Error(err)
	}
	if n := len(web.take()); n != 1 {
		t.Errorf("a stream was sent %d times", n)
	}
	eventually(t, 5*time.Second, func() error {
		if n := strings.Count(c.logOf("balancer-1"), " entry web.direct/"); n != 7 {
			return fmt.Errorf("%d of 7 requests went by web.direct", n)
		}
		return nil
	})
}

// A drill's requests reach their application unchanged, whatever the routes are.
func TestADrillsRequestsKeepTheirPath(t *testing.T) {
	c, web, other := routesCluster(t, nil,
		stack.Route{PathPrefix: []string{"/v1"}, StripPrefix: true, App: "other"},
		stack.Route{PathPrefix: []string{"/"}, App: "other"})
	c.get("/up") // by the second route
	other.take()
	value := DrillValue(c.secrets, "web")
	for _, path := range []string{"/v1/keys/a", "/v1/keys/a?watch"} {
		if who, got := c.routed(t, web, other, "GET "+path, DrillHeaderName+": "+value); who != "web" || got.RequestURI != path {
			t.Errorf("it reached %s as %s", who, got.RequestURI)
		}
		if who, _ := c.routed(t, web, other, "GET "+path, DrillHeaderName+": x/web"); who != "other" {
			t.Errorf("a client without the secret reached %s", who)
		}
	}
}
