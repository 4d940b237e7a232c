package test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/supervise"
)

// write writes the stack file of a host.
func (h *netnsHost) write(text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "holdfast.yaml"), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// spread returns how many nodes of a kind run on each host, as "one: 2 two: 1". It fails the test
// if a node is not at the address of its host.
func spread(t *testing.T, hosts map[string]*netnsHost, st supervise.Status, kind string) string {
	t.Helper()
	count := map[string]int{}
	for _, n := range st.Nodes {
		if string(n.Kind) == kind {
			count[n.Host]++
		}
		if h := hosts[n.Host]; h == nil || !strings.HasPrefix(n.Address, h.address+":") {
			t.Errorf("%s is on host %q at %s", n.Name, n.Host, n.Address)
		}
	}
	var all []string
	for _, name := range []string{"one", "two", "three"} {
		all = append(all, fmt.Sprintf("%s: %d", name, count[name]))
	}
	return strings.Join(all, " ")
}

// A stack that runs on one machine becomes a stack of three hosts, and then of two, while it
// serves. No request fails, and no write is lost.
func TestOneHostGrowsToThreeAndShrinksToTwoUnderLoad(t *testing.T) {
	beside(t, oneStack)
	hosts := newNetnsHosts(t)
	one, two, three := hosts["one"], hosts["two"], hosts["three"]
	const file = "name: shop\nentry: {listen: \"0.0.0.0:8080\", auth: none}\nrollout: {settle: 50ms}\n"
	one.write(file)
	one.must("up", "-d")
	first := one.awaitReady()
	l := startLoadBy(t, one.dial, "http://"+one.address+":8080", 100, false)

	one.write(file + hostLines(one, two, three))
	before := pids(one.awaitReady())
	for _, args := range [][]string{{"apply", "--yes"}, {"up", "-d"}} {
		requireWords(t, one.fails(1, args...), "network: trusted", "take the stack down", "Nothing was changed")
	}
	if now := pids(one.awaitReady()); !maps.Equal(now, before) {
		t.Errorf("what was refused has changed %v to %v", before, now)
	}
	one.write(file + "network: trusted\n" + hostLines(one, two, three))
	requireWords(t, one.fails(1, "up", "-d"), "apply", "first of its hosts")
	requireWords(t, one.must("apply", "--yes"), "This machine is host one of the stack shop now", "Hosts two and three have not joined", "host add two")
	if got := spread(t, hosts, one.awaitReady(), "redis"); got != "one: 3 two: 0 three: 0" {
		t.Errorf("redis nodes: %s", got)
	}
	requireWords(t, one.fails(1, "apply", "--yes"), "hosts.two", "has not joined")

	two.must("join", one.token("two"), "-d")
	three.must("join", two.token("three"), "-d")
	requireWords(t, one.must("apply", "--plan"), "redis-3", "hosts.two")
	requireWords(t, one.must("apply", "--yes"), "apply: done")
	st := one.awaitReady()
	for _, kind := range []string{"redis", "sentinel"} {
		if got := spread(t, hosts, st, kind); got != "one: 1 two: 1 three: 1" {
			t.Errorf("%s nodes: %s", kind, got)
		}
	}

	requireWords(t, two.must("host", "remove", "three", "--yes"), "host three is removed")
	st = two.awaitReady()
	if got := spread(t, hosts, st, "redis"); got != "one: 2 two: 1 three: 0" && got != "one: 1 two: 2 three: 0" {
		t.Errorf("redis nodes: %s", got)
	}
	if slices.ContainsFunc(st.Nodes, func(n supervise.NodeStatus) bool { return n.Host == "three" }) || len(st.Nodes) != len(first.Nodes) {
		t.Errorf("the nodes are %+v", st.Nodes)
	}
	o := l.finish(t)
	o.requireTraffic(t, 1000)
	for _, op := range o.failed {
		t.Errorf("a request failed %v after the load began, at %s: %v", op.began.Sub(l.began), op.began.Format("15:04:05.000"), op.err)
	}
	if len(o.failed) > 0 {
		for _, h := range []*netnsHost{one, two} {
			h.tellOfTries()
		}
	}
	two.must("down")
}

// hostLines returns the hosts as a stack file has them.
func hostLines(hosts ...*netnsHost) string {
	text := "hosts:\n"
	for _, h := range hosts {
		text += fmt.Sprintf("  %s: {address: %s}\n", h.name, h.address)
	}
	return text
}

// tellOfTries logs what the balancers and the supervisor of a host have logged about requests that
// failed or were retried.
func (h *netnsHost) tellOfTries() {
	h.t.Helper()
	stdout, _, _ := h.run("logs", "-n", "0")
	for line := range strings.Lines(stdout) {
		for _, word := range []string{"=\"change: ", "HTTP/1.1\"", "Server web/", "signal=", "msg=reload"} {
			if strings.Contains(line, word) {
				h.t.Logf("%s", strings.TrimSpace(line))
				break
			}
		}
	}
}

// A stack that began with one host uses TLS from the start, and grows with it.
func TestAnEncryptedStackGetsAHostUnderLoad(t *testing.T) {
	beside(t, oneStack)
	hosts := newNetnsHosts(t)
	one, two := hosts["one"], hosts["two"]
	const file = "name: shop\nentry: {listen: \"0.0.0.0:8080\", auth: none}\nrollout: {settle: 50ms}\n"
	one.write(file + hostLines(one))
	one.must("up", "-d")
	one.awaitReady()
	l := startLoadBy(t, one.dial, "http://"+one.address+":8080", 100, false)

	one.write(file + hostLines(one, two))
	two.must("join", one.token("two"), "-d")
	requireWords(t, one.must("apply", "--yes"), "apply: done")
	if got := spread(t, hosts, two.awaitReady(), "redis"); got != "one: 2 two: 1 three: 0" {
		t.Errorf("redis nodes: %s", got)
	}
	o := l.finish(t)
	o.requireTraffic(t, 500)
	for _, op := range o.failed {
		t.Errorf("a request failed %v after the load began, at %s: %v", op.began.Sub(l.began), op.began.Format("15:04:05.000"), op.err)
	}
	if len(o.failed) > 0 {
		one.tellOfTries()
	}
	two.showsItsCertificate()
	two.must("down")
}
