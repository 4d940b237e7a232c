package plan

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// originCluster returns a balancer in front of a kv and a user's program, both of which the test
// serves, and the port of the entry.
func originCluster(t *testing.T, trusted ...string) (c *cluster, kv, own *flaky, port string) {
	kv, own = &flaky{}, &flaky{}
	kvPort, ownPort := kv.serve(t), own.serve(t)
	s := httpStack(t)
	s.Entry.TrustedProxies, s.Entry.Hosts = trusted, []string{"*"}
	c = newCluster(t, s, map[string]int{"web-1": kvPort, "web-2": kvPort, "other-1": ownPort, "other-2": ownPort})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	eventually(t, 5*time.Second, func() error { return c.get("/other").is(200) })
	kv.take()
	own.take()
	_, port, _ = strings.Cut(s.Entry.Listen, ":")
	return c, kv, own, port
}

// sent requests a path with these header lines, and returns the headers that arrived.
func (c *cluster) sent(t *testing.T, at *flaky, path string, lines ...string) http.Header {
	t.Helper()
	head := "GET " + path + " HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	if r, body := c.raw(t, head); r.StatusCode != 200 {
		t.Fatalf("%q: %s %s", head, r.Status, body)
	}
	seen := at.take()
	if len(seen) != 1 {
		t.Fatalf("%q arrived %d times", head, len(seen))
	}
	return seen[0].Header
}

// forged is what a client might claim about itself.
var forged = []string{
	"X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 6.6.6.6", "X_Forwarded_For: 6.6.6.6", "X-Forwarded_For: 6.6.6.6", "X.Forwarded.For: 6.6.6.6",
	"X-FORWARDED-PROTO: https", "X_FORWARDED_PROTO: https", "X-Forwarded-Protocol: https", "X-Forwarded-Ssl: on", "X-Forwarded-Scheme: https",
	"X-Forwarded-Host: evil.example", "X-Forwarded-Port: 443", "X-Forwarded-Server: 6.6.6.6", "X-Forwarded-Prefix: /evil", "X-Forwarded: 6.6.6.6",
	"Forwarded: for=6.6.6.6;proto=https;host=evil.example", "Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "X_Real_IP: 6.6.6.6",
	"X-Client-IP: 6.6.6.6", "X-Cluster-Client-IP: 6.6.6.6", "True-Client-IP: 6.6.6.6", "CF-Connecting-IP: 6.6.6.6", "Client-IP: 6.6.6.6",
	"X-Original-URL: /evil", "X-Original-Host: evil.example", "X-Rewrite-URL: /evil", "X-Scheme: https", "X-Url-Scheme: https", "Front-End-Https: on", "Https: on",
	"SCRIPT_NAME: /evil", "Script-Name: /evil", "X-Script-Name: /evil", "PATH_INFO: /evil", "Proxy: http://evil.example", "X-Proto: https", "CloudFront-Forwarded-Proto: https", "CF-Visitor: https",
}

func TestWhatAClientSaysOfItsOriginIsReplaced(t *testing.T) {
	c, kv, own, port := originCluster(t, "192.0.2.0/24", "2001:db8::1")
	base := []string{"Host: shop.example:99", "Connection: close", "X-Forwards: 6", "X_Other: kept", "Via: 1.1 kept"}
	for _, lines := range [][]string{nil, forged} {
		h := c.sent(t, own, "/other", append(base, lines...)...)
		for name, want := range map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example:99", "X-Forwarded-Port": port,
			"Forwarded":  `for=127.0.0.1;host="shop.example:99";proto=http`,
			"X-Forwards": "6", "X_other": "kept", "Via": "1.1 kept",
		} {
			if got := h.Values(name); name == "X_other" && h["X_other"][0] != want || name != "X_other" && (len(got) != 1 || got[0] != want) {
				t.Errorf("%s is %q, want %q once", name, got, want)
			}
		}
		for name, values := range h {
			if all := strings.Join(values, " "); strings.Contains(all, "6.6.6.6") || strings.Contains(all, "https") || strings.Contains(all, "evil") || all == "on" {
				t.Errorf("the client's %s reached the program: %q", name, values)
			}
		}
		h = c.sent(t, kv, "/", append(base, lines...)...)
		if got := h.Values("X-Forwarded-For"); len(got) != 1 || got[0] != "127.0.0.1" {
			t.Errorf("a kv gets X-Forwarded-For %q", got)
		}
	}
	// A proxy behind the balancer would remove the headers that Connection names.
	h := c.sent(t, own, "/other", "Host: a", "Connection: close, X-Forwarded-For")
	if got := h.Get("Connection"); strings.Contains(strings.ToLower(got), "forwarded") {
		t.Errorf("Connection is %q", got)
	}
	// A host name with characters that no host name has is left out.
	h = c.sent(t, own, "/other", "Host: a;for=6.6.6.6", "Connection: close")
	if got := h.Get("Forwarded"); got != "for=127.0.0.1;proto=http" {
		t.Errorf("Forwarded is %q", got)
	}
}

func TestATrustedProxysHeadersAreKept(t *testing.T) {
	c, _, own, port := originCluster(t, "127.0.0.0/8", "::1")
	for _, try := range []struct {
		lines []string
		want  map[string]string
	}{
		{nil, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example", "X-Forwarded-Port": port,
			"Forwarded": `for=127.0.0.1;host="shop.example";proto=http`,
		}},
		{[]string{"X-Forwarded-For: 6.6.6.6, 7.7.7.7", "X-Forwarded-Proto: https", "X-Real-IP: 7.7.7.7", "X_Forwarded_For: 9.9.9.9", "X-Forwarded_Proto: evil"}, map[string]string{
			"X-Forwarded-For": "6.6.6.6, 7.7.7.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example", "X-Forwarded-Port": "443",
			"Forwarded": `for=7.7.7.7;host="shop.example";proto=https`, "X-Real-Ip": "7.7.7.7",
		}},
		{[]string{"X-Forwarded-For: 2001:db8::7", "X-Forwarded-Host: www.example:8443", "X-Forwarded-Proto: https"}, map[string]string{
			"X-Forwarded-Host": "www.example:8443", "X-Forwarded-Port": "8443",
			"Forwarded": `for="[2001:db8::7]";host="www.example:8443";proto=https`,
		}},
		{[]string{"SCRIPT_NAME: /shop"}, map[string]string{"Script_name": "/shop"}},
		{[]string{"X-Forwarded-For: hidden", "X-Forwarded-Port: 77"}, map[string]string{
			"X-Forwarded-For": "hidden", "X-Forwarded-Port": "77", "Forwarded": `for=unknown;host="shop.example";proto=http`,
		}},
		{[]string{"Forwarded: for=_secret;proto=https, for=7.7.7.7"}, map[string]string{"Forwarded": "for=_secret;proto=https, for=7.7.7.7"}},
	} {
		h := c.sent(t, own, "/other", append([]string{"Host: shop.example", "Connection: close"}, try.lines...)...)
		for name, want := range try.want {
			if got := h.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%q: %s is %q, want %q", try.lines, name, got, want)
			}
		}
		for name := range h {
			if strings.Contains(name, "_") && name != "Script_name" {
				t.Errorf("%s is not a proxy's, and was passed on", name)
			}
		}
	}
}

// Web nodes serve senders in turn, so on every way to a node a request has to name its own address
// and no other.
func TestANodeIsToldWhichAddressAsks(t *testing.T) {
	c, kv, _, port := originCluster(t, "127.0.0.3")
	secret := c.secrets.Source
	ask := func(source, path string, lines ...string) http.Header {
		t.Helper()
		conn, err := from(t, source, "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", path, strings.Join(append(lines, ""), "\r\n"))
		if r, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s from %s: %v, %v", path, source, r, err)
		}
		seen := kv.take()
		if len(seen) != 1 {
			t.Fatalf("%s from %s arrived %d times", path, source, len(seen))
		}
		return seen[0].Header
	}
	lies := append([]string{
		"Holdfast-Source: " + secret + "/6.6.6.6", "holdfast-source: /6.6.6.6", "Holdfast-Source: 6.6.6.6",
		"Connection: Holdfast-Source, X-Forwarded-For",
	}, forged...)
	for _, path := range []string{"/", "/subscribe/c", "/v1/keys/k?watch"} {
		for _, try := range []struct {
			source string
			lines  []string
			want   string
		}{
			{"127.0.0.1", nil, "127.0.0.1"},
			{"127.0.0.2", nil, "127.0.0.2"},
			{"127.0.0.1", lies, "127.0.0.1"},
			{"127.0.0.2", lies, "127.0.0.2"},
			{"127.0.0.3", []string{"X-Forwarded-For: 6.6.6.6, 10.1.2.3", "Holdfast-Source: " + secret + "/6.6.6.6"}, "10.1.2.3"},
			{"127.0.0.3", []string{"X-Forwarded-For: 6.6.6.6, 2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::"},
			{"127.0.0.3", []string{"X-Forwarded-For: ::ffff:10.1.2.3"}, "10.1.2.3"},
			{"127.0.0.3", []string{"X-Forwarded-For: 6.6.6.6, hidden"}, ""},
		} {
			if got := ask(try.source, path, try.lines...)[SourceHeaderName]; len(got) != 1 || got[0] != secret+"/"+try.want {
				t.Errorf("%s from %s with %q: a node is told %q, want %q", path, try.source, try.lines, got, try.want)
			}
		}
	}
}

func TestTheStatisticsPageIsForPeopleOnThisMachine(t *testing.T) {
	for _, trusted := range [][]string{nil, {"127.0.0.1"}} {
		c, _, _, port := originCluster(t, trusted...)
		for head, shown := range map[string]bool{
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1:" + port + "\r\n":                           true,
			"GET /web-app;csv HTTP/1.1\r\nHost: LocalHost:" + port + "\r\n":                       true,
			"GET /web-app HTTP/1.1\r\nHost: [::1]\r\n":                                            true,
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 6.6.6.6\r\n":            false,
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1\r\nx-forwarded-proto: https\r\n":            false,
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1\r\nForwarded: for=6.6.6.6\r\n":              false,
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1\r\nVia: 1.1 proxy\r\n":                      false,
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Real-IP: 6.6.6.6\r\n":                  false,
			"GET /web-app HTTP/1.1\r\nHost: shop.example\r\n":                                     false,
			"GET /web-app HTTP/1.1\r\nHost: 127.0.0.1.shop.example\r\n":                           false,
			"GET /web-app HTTP/1.0\r\nHost: 127.0.0.1:" + port + "\r\n":                           false, // nginx, without further settings
			"GET /web-app;csv HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1, ::1\r\n": false,
		} {
			_, body := c.raw(t, head+"Connection: close\r\n\r\n")
			if got := strings.Contains(body, "entry.statistics"); got != shown {
				t.Errorf("trusted %v: %q: the page is shown: %v", trusted, head, got)
			}
		}
	}
}

func TestAuthNoneShowsTheStatisticsPageToEverybody(t *testing.T) {
	s := httpStack(t)
	s.Entry.Auth, s.Entry.Hosts = "none", []string{"shop.example"}
	for name := range s.Apps {
		app := s.Apps[name]
		app.Health = stack.Health{Interval: time.Second, Rise: 2, Fall: 2}
		s.Apps[name] = app
	}
	c := newCluster(t, s, nil)
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error {
		return c.request("GET", "/web-app", "", map[string]string{"Host": "shop.example", "X-Forwarded-For": "6.6.6.6"}).is(200)
	})
}
