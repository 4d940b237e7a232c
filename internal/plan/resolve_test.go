package plan

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/isolate/dnstest"
	"holdfast/internal/stack"
)

// HAProxy by itself takes a server out of service whose name was not resolved for 30 s,
// whatever its checks say.
func TestServersThatWereFoundStayWhereDNSIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than 30 s")
	}
	web, dns := &flaky{}, dnstest.Start(t)
	dns.Set("", "127.0.0.1")
	s := httpStack(t)
	app := s.Apps["web"]
	app.Nodes, app.Ports = 0, nil
	app.Found = &stack.Found{At: "web.test:" + strconv.Itoa(web.serve(t)), Nodes: 1, Balancers: 1}
	s.Apps["web"] = app
	other := &flaky{}
	port := other.serve(t)
	c := newCluster(t, s, map[string]int{"other-1": port, "other-2": port})

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

	// One after the other, each for longer than HAProxy would wait by itself.
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
