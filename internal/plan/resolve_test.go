package plan

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/isolate/dnstest"
	"holdfast/internal/stack"
)

// newDiscovered returns a balancer that finds the web nodes through the test's name server. The
// nodes do not use TLS.
func newDiscovered(t *testing.T, web *flaky) (*cluster, *dnstest.Server) {
	t.Helper()
	return newDiscoveredApp(t, web.serve(t), func(_ *stack.App, secret *string) { web.source.Store(secret) })
}

// newDiscoveredApp is newDiscovered with an application at a port that may be another kind. change
// also gets the secret by which web nodes prove that they belong to the stack.
func newDiscoveredApp(t *testing.T, port int, change func(app *stack.App, secret *string)) (*cluster, *dnstest.Server) {
	t.Helper()
	dns := dnstest.Start(t)
	dns.Set("", "127.0.0.1")
	s := httpStack(t)
	app := s.Apps["web"]
	app.Nodes, app.Ports = 0, nil
	app.Discovery = &stack.Discovery{At: "web.test:" + strconv.Itoa(port), Nodes: 1, Balancers: 1}
	secret := new(string)
	change(&app, secret)
	s.Apps["web"] = app
	other := &flaky{}
	otherPort := other.serve(t)
	c := newCluster(t, s, map[string]int{"other-1": otherPort, "other-2": otherPort})
	*secret = c.secrets.Source

	file := filepath.Join(c.dir, "nodes", "balancer-1", "haproxy.cfg")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(string(text), "parse-resolv-conf", "nameserver test "+dns.Address(), 1)
	if own == string(text) {
		t.Fatal("the nameserver of the host is not where it was")
	}
	if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	return c, dns
}

// HAProxy's own rule takes a server out of service whose name was not resolved for 30 s, whatever
// its health checks report.
func TestServersThatWereFoundStayWhereDNSIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than 30 s")
	}
	c, dns := newDiscovered(t, &flaky{})

	// Each fault in turn lasts longer than HAProxy would wait by itself.
	dns.Be(dnstest.Silent)
	time.Sleep(34 * time.Second)
	if err := c.get("/up").is(200); err != nil {
		t.Errorf("DNS was silent: %v", err)
	}
	dns.Be(dnstest.KnowsNothing)
	time.Sleep(34 * time.Second)
	if err := c.get("/up").is(200); err != nil {
		t.Errorf("DNS knew nothing of the name: %v", err)
	}
}

// While DNS has no answer, a stranger's server may get the address of a node that is gone. It is
// healthy, but must not get requests.
func TestAStrangerAtANodesAddressIsNoServer(t *testing.T) {
	web := &flaky{}
	c, dns := newDiscovered(t, web)
	ours, theirs, none := c.secrets.Source, "another stack's", ""
	dns.Be(dnstest.KnowsNothing)
	for _, stranger := range []*string{&theirs, &none, nil} {
		began := time.Now()
		web.source.Store(stranger)
		for _, path := range []string{"/up", "/healthz/live"} { // each backend resolves the name by itself
			eventually(t, 5*time.Second, func() error { return c.get(path).is(503) })
		}
		t.Logf("the stranger was out after %v", time.Since(began).Round(time.Millisecond))
		web.take()
		for range 20 {
			if err := c.get("/up").is(503); err != nil {
				t.Error(err)
			}
		}
		if got := web.take(); len(got) > 0 {
			t.Errorf("the stranger was sent %d requests", len(got))
		}
		web.source.Store(&ours) // a node of this stack has the address again
		eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	}
	log, err := os.ReadFile(filepath.Join(c.dir, "logs", "balancer-1.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "it is no web node of this stack") {
		t.Errorf("the log does not say why: %s", log)
	}
}

// A pod that ends leaves DNS at once, and answers on for a while what it has in hand. A POST shows
// that: a GET would be sent again.
func TestAPodThatLeavesDNSAnswersWhatItHas(t *testing.T) {
	has, answer := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.Copy(io.Discard, r.Body)
			has <- struct{}{}
			<-answer
		}
	}))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		t.Fatal(err)
	}
	c, dns := newDiscoveredApp(t, port, func(app *stack.App, _ *string) {
		app.KV, app.Image, app.Port, app.Health.Path = nil, "shop:1", port, "/"
		app.Connections, app.Queue = 0, 0
	})

	answered := make(chan response, 1)
	go func() { answered <- c.request("POST", "/buy", "it", nil) }()
	<-has
	dns.Set("", "127.0.0.2") // where nothing listens
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(503) })
	select {
	case r := <-answered:
		t.Errorf("the request was ended: %+v", r)
	default:
	}
	close(answer)
	if err := (<-answered).is(200); err != nil {
		t.Error(err)
	}
}
