package cli

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/internal/pod"
	"holdfast/internal/stack"
)

// A program may wait for Redis, which it reaches through a ready balancer. If the balancer waited
// for the program, both would wait for ever.
func TestABalancerWaitsForNoProgramThatWaitsForIt(t *testing.T) {
	entry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Holdfast-Balancer", "shop-balancer-1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(entry.Close)
	listen := strings.TrimPrefix(entry.URL, "http://")

	other, err := net.Listen("tcp", "127.0.0.1:0") // another balancer's port
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	_, otherPort, err := net.SplitHostPort(other.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, nobody, err := net.SplitHostPort(closed.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	const program, routes = "{image: cart, port: 8000}", "routes: [{path-prefix: /web, app: web}, {app: cart}]\n"
	const leads = "apps: {web: {kv: {}}, cart: " + program + "}\n" + routes
	none := &net.DNSError{Err: "no such host", IsNotFound: true}
	for what, c := range map[string]struct {
		file  string
		err   error // of DNS, for the program
		port  string
		ready bool

		balancers error // of DNS, for the other balancers
	}{
		"none of its pods is ready":      {leads, none, nobody, true, nil},
		"another balancer is ready":      {leads, none, otherPort, false, nil},
		"a pod is ready":                 {leads, nil, nobody, false, nil},
		"DNS is silent":                  {leads, &net.DNSError{IsTimeout: true}, nobody, false, nil},
		"DNS is silent of balancers":     {leads, none, nobody, false, &net.DNSError{IsTimeout: true}},
		"balancers have no Service":      {leads, none, nobody, true, none},
		"the entry leads to a web node":  {"apps: {web: {kv: {}}, cart: " + program + "}\nroutes: [{path-prefix: /cart, app: cart}, {app: web}]\n", none, nobody, false, nil},
		"a route leads to the web nodes": {"apps: {web: {kv: {}}, cart: " + program + "}\nroutes: [{path-prefix: /healthz, app: web}, {app: cart}]\n", none, nobody, false, nil},
		"it has no Redis":                {"apps: {cart: " + program + "}\nredis: {enabled: false}\n", none, "", false, nil},
	} {
		if c.port != "" {
			c.file += "redis: {master-port: " + c.port + "}\n"
		}
		s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\nnetwork: trusted\nentry: {listen: \""+listen+"\", auth: none}\n"+c.file))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		p := &podProcess{file: s, services: &pod.Services{Lookup: func(_ context.Context, name string) ([]string, error) {
			if strings.HasPrefix(name, "shop-redis-master") {
				return []string{"127.0.0.1"}, c.balancers
			}
			if !strings.HasPrefix(name, "shop-cart") {
				t.Errorf("%s: DNS is asked for %s", what, name)
			}
			return []string{"198.18.0.1"}, c.err
		}}}
		began := time.Now()
		for after := time.Duration(0); after < aloneFor; after += time.Second {
			if err := p.awaitServers(began.Add(after)); err == nil || p.hadServer.Load() {
				t.Fatalf("%s: the balancer is ready after %v", what, after)
			}
		}
		if err := p.awaitServers(began.Add(aloneFor)); (err == nil) != c.ready || p.hadServer.Load() != c.ready {
			t.Errorf("%s: the balancer is ready: %v, %v", what, !c.ready, err)
		}
	}
}
