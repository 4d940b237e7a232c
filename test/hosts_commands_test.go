package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/clock"
	"holdfast/internal/doctor"
	"holdfast/internal/host"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// threeHosts is a stack of three hosts. Its files have the same path on all of them, as they must.
type threeHosts struct {
	t     *testing.T
	hosts map[string]*netnsHost
	dir   string            // directory of the stack file and of the program
	parts map[string]string // parts of the stack file
}

func newThreeHosts(t *testing.T) *threeHosts {
	t.Helper()
	c := &threeHosts{t: t, hosts: newNetnsHosts(t), parts: map[string]string{}}
	one := c.hosts["one"]
	c.dir = filepath.Dir(one.dir)
	c.plug(one)
	if err := os.Mkdir(filepath.Join(c.dir, "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.put("shop/app.py", shopProgram)
	c.put("shop/version", "1")
	c.write(nil)
	for _, h := range c.hosts {
		h.program = filepath.Join(c.dir, "holdfast")
	}
	c.install("one")
	one.must("up", "-d", "--file", c.file())
	for _, name := range []string{"two", "three"} {
		c.hosts[name].must("join", one.token(name), "-d")
	}
	for _, h := range c.hosts {
		h.awaitReady()
	}
	return c
}

// plug connects the test to the hosts' network.
func (c *threeHosts) plug(one *netnsHost) {
	c.t.Helper()
	tag := strings.TrimSuffix(one.netns, "-1")
	link := fmt.Sprintf("hf%d", time.Now().UnixNano()%1e9)
	shell(c.t, "ip", "link", "add", link, "type", "veth", "peer", "name", "e9", "netns", tag+"-0") // it ends with the namespace
	shell(c.t, "ip", "-netns", tag+"-0", "link", "set", "e9", "master", "br0", "up")
	shell(c.t, "ip", "address", "add", strings.TrimSuffix(one.address, ".1")+".100/24", "dev", link)
	shell(c.t, "ip", "link", "set", link, "up")
}

func (c *threeHosts) put(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *threeHosts) file() string { return filepath.Join(c.dir, "holdfast.yaml") }

// write writes the stack file with other parts.
func (c *threeHosts) write(parts map[string]string) {
	c.t.Helper()
	part := func(name, usual string) string {
		if parts[name] != "" {
			return parts[name]
		}
		return usual
	}
	c.put("holdfast.yaml", fmt.Sprintf(`name: shop
entry: {listen: "0.0.0.0:8080", auth: none, errors: {%s}}
balancers: 2
hosts:
  one: {address: %s}
  two: {address: %s}
  three: {address: %s}
apps:
  web: {kv: {}, nodes: 3, on: [%s]}
  shop:
    command: %s
    release: shop
    nodes: 2
    env: {LEVEL: %s}
    health: {interval: 200ms, path: /shop}
routes:
  - {path-prefix: /shop, app: shop}
  - {app: web}
rollout: {settle: 200ms}
`, part("errors", ""), c.hosts["one"].address, c.hosts["two"].address, c.hosts["three"].address,
		part("on", "one, two, three"), part("command", "[python3, -u, app.py]"), part("level", "info")))
}

// install installs a version of the program at the path that the hosts use.
func (c *threeHosts) install(version string) {
	c.t.Helper()
	(&instance{t: c.t}).install(binary, filepath.Join(c.dir, "holdfast"), version)
}

// run runs a part of the test.
func (c *threeHosts) run(name string, part func(t *testing.T)) {
	whole := c.t
	of := func(t *testing.T) {
		c.t = t
		for _, h := range c.hosts {
			h.t = t
		}
	}
	defer of(whole)
	whole.Run(name, func(t *testing.T) {
		of(t)
		part(t)
	})
}

// roles returns the leading host and the two others.
func (c *threeHosts) roles() (leader, a, b *netnsHost) {
	c.t.Helper()
	var others []*netnsHost
	for _, name := range []string{"one", "two", "three"} {
		h := c.hosts[name]
		v := h.list()
		if v.Leader == name {
			leader = h
		} else {
			others = append(others, h)
		}
	}
	if leader == nil {
		c.t.Fatal("no host leads")
	}
	return leader, others[0], others[1]
}

// entries returns the addresses at which clients are served.
func (c *threeHosts) entries() (all []string) {
	c.t.Helper()
	st := c.hosts["one"].awaitReady()
	for _, n := range st.Nodes {
		if n.Kind == plan.Balancer {
			all = append(all, "http://"+c.hosts[n.Host].address+":8080")
		}
	}
	return all
}

// requireAnswer checks that the application answers with these words at every entry.
func (c *threeHosts) requireAnswer(words string) {
	c.t.Helper()
	for _, entry := range c.entries() {
		body, err := ask(&fasthttp.Client{ReadTimeout: 15 * time.Second}, entry+"/shop")
		if err != nil {
			c.t.Errorf("%s: %v", entry, err)
		}
		requireWords(c.t, body, words)
	}
}

// node returns a node as a host sees it.
func (h *netnsHost) node(name string) supervise.NodeStatus {
	h.t.Helper()
	st, ok := h.status()
	n, there := st.Node(name)
	if !ok || !there {
		h.t.Fatalf("host %s sees no node %s", h.name, name)
	}
	return n
}

// nodesOf returns the nodes of an application as a host sees them.
func (h *netnsHost) nodesOf(app string) (all []supervise.NodeStatus) {
	h.t.Helper()
	st, _ := h.status()
	for _, n := range st.Nodes {
		if n.App == app {
			all = append(all, n)
		}
	}
	return all
}

// begin runs the program on a host, and returns when it has printed these words.
func (h *netnsHost) begin(words string, args ...string) (end func() (said string, code int)) {
	h.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.netns, h.program}, append(args, "--state", h.state)...)...)
	cmd.Dir, cmd.Env = h.dir, append(os.Environ(), h.env...)
	said := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // end returns the exit code
	}()
	h.t.Cleanup(func() { <-ended })
	if !clock.Within(30*time.Second, 10*time.Millisecond, func() bool { return strings.Contains(said.String(), words) }) {
		h.t.Fatalf("host %s: holdfast %s does not say %q: %s", h.name, strings.Join(args, " "), words, said)
	}
	return func() (string, int) {
		<-ended
		return said.String(), cmd.ProcessState.ExitCode()
	}
}

// killHost kills the process of a host. Its nodes go on.
func (h *netnsHost) killHost() {
	h.t.Helper()
	if err := syscall.Kill(h.list().PID, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
}

func TestEveryCommandAtAnyHost(t *testing.T) {
	beside(t, severalHosts)
	c := newThreeHosts(t)
	leader, a, b := c.roles()
	load := startLoadOf(t, c.entries()[0], 60, false)

	c.run("look", func(t *testing.T) {
		requireWords(t, a.must("status"), "host "+leader.name+" leads", "ready", "shop-2", "redis-3")
		requireWords(t, b.must("logs", "redis-1", "-n", "0"), "Ready to accept connections")
		stdout, _, _ := b.run("doctor", "--json")
		var r doctor.Report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("doctor: %v: %s", err, stdout)
		}
		for _, f := range r.Findings {
			if f.Level == doctor.Error {
				t.Errorf("doctor at host %s: %s", b.name, f.What)
			}
		}
		requireWords(t, a.must("plan", "--file", c.file()), "HOST", "three")
		requireWords(t, a.fails(2, "stop", "web-9"), "web-9")
	})

	c.run("nodes", func(t *testing.T) {
		for _, n := range a.nodesOf("web") {
			if n.Host != b.name {
				continue
			}
			a.must("restart", n.Name)
			if now := b.node(n.Name); now.PID == n.PID || now.State != supervise.Up {
				t.Errorf("%s is %s, pid %d, was %d", n.Name, now.State, now.PID, n.PID)
			}
		}
		a.must("drain", "shop-1")
		if !b.node("shop-1").Drained {
			t.Error("shop-1 is not drained")
		}
		b.must("undrain", "shop-1")
		if a.node("shop-1").Drained {
			t.Error("shop-1 is drained still")
		}
		a.must("scale", "shop=3")
		if n := b.node("shop-3"); n.State != supervise.Up {
			t.Errorf("shop-3 is %s", n.State)
		}
		b.must("scale", "shop=2")
		if nodes := a.nodesOf("shop"); len(nodes) != 2 {
			t.Errorf("there are %d nodes", len(nodes))
		}
	})

	moved := a.name + ", " + b.name
	c.run("apply", func(t *testing.T) {
		requireWords(t, a.must("apply", "--file", c.file()), "Nothing to change")
		requireWords(t, a.must("apply"), "Nothing to change") // without a file

		// A key changes, and a node moves.
		const page = "421.html"
		c.put(page, "<p>Not here")
		with := map[string]string{"level": "debug", "on": moved, "errors": "421: ./" + page}
		c.write(with)
		requireWords(t, b.must("status", "--file", c.file()), "the stack file differs")
		requireWords(t, a.must("apply", "--plan", "--file", c.file()), "apps.shop.env.LEVEL", "(from "+leader.address+":")
		requireWords(t, a.fails(2, "apply", "--file", c.file()), "--yes")
		b.must("apply", "--yes", "--file", c.file())
		c.requireAnswer("1 debug shop-")
		for _, n := range a.nodesOf("web") {
			if n.Host == leader.name || n.State != supervise.Up {
				t.Errorf("%s on host %s is %s", n.Name, n.Host, n.State)
			}
		}
		requireWords(t, a.must("status", "--file", c.file()), "ready")

		// All balancers have the page of a file that only the host of the command had to have.
		if err := os.Remove(filepath.Join(c.dir, page)); err != nil {
			t.Fatal(err)
		}
		for _, entry := range c.entries() {
			req, err := http.NewRequest("GET", entry+"/shop", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "elsewhere.example"
			req.Header.Set("Accept", "text/html")
			if code, body := answerOf(t)(http.DefaultClient.Do(req)); code != 421 || body != "<p>Not here" {
				t.Errorf("%s answers %d %q", entry, code, body)
			}
		}
		c.put(page, "<p>Not here")

		// A change that fails is undone.
		with["command"] = "[python3, -c, 'raise SystemExit(\"no such shop\")']"
		c.write(with)
		requireWords(t, a.fails(1, "apply", "--yes", "--file", c.file()), "no such shop")
		b.awaitReady()
		requireWords(t, b.must("status"), "the last change (apply", "was stopped")
		c.requireAnswer("1 debug shop-")
	})

	c.run("rollout", func(t *testing.T) {
		c.put("shop/version", "2")
		a.must("rollout", "shop")
		c.requireAnswer("2 debug shop-")
		for _, h := range c.hosts {
			if copies, _ := filepath.Glob(filepath.Join(h.state, "releases", "shop", "*.manifest")); len(copies) != 2 {
				t.Errorf("host %s has the copies %v", h.name, copies)
			}
		}
		b.must("rollout", "shop", "--undo")
		c.requireAnswer("1 debug shop-")
		requireWords(t, a.must("rollout", "shop", "--history"), "undo")
	})

	c.run("two operators", func(t *testing.T) {
		end := a.begin("begun", "restart", "shop")
		requireWords(t, b.fails(1, "scale", "shop=4"), "another change is under way (restart")
		c.write(map[string]string{"level": "warn"}) // what has moved may stay where it is
		requireWords(t, b.fails(1, "apply", "--yes", "--file", c.file()), "another change is under way (restart")
		if said, code := end(); code != 0 {
			t.Errorf("exit %d: %s", code, said)
		}
		// Of two at the same moment one is carried out, and then either the other one or nothing of
		// it.
		first := a.begin("", "apply", "--yes", "--file", c.file())
		second := b.begin("", "apply", "--yes", "--file", c.file())
		done := 0
		for _, end := range []func() (string, int){first, second} {
			said, code := end()
			switch {
			case code == 0:
				done++
			case code == 1 && (strings.Contains(said, "another change is under way") || strings.Contains(said, "changed meanwhile")):
			default:
				t.Errorf("exit %d: %s", code, said)
			}
		}
		if done == 0 {
			t.Error("neither was carried out")
		}
		c.requireAnswer("warn shop-")
		for _, n := range b.awaitReady().Nodes {
			if n.App == "web" && n.Host == leader.name {
				t.Errorf("%s was moved back to host %s", n.Name, n.Host)
			}
		}
	})

	c.run("data", func(t *testing.T) {
		before := b.master()
		a.must("switchover")
		b.eventually("another redis node is the master", func() bool { return b.master() != before && b.master() != "" })
		to := "redis-1"
		if b.master() == to {
			to = "redis-2"
		}
		b.must("switchover", "--to", to)
		if got := a.master(); got != to {
			t.Errorf("the master is %s, and not %s", got, to)
		}
		backup := filepath.Join(c.dir, "shop.tar")
		requireWords(t, a.must("backup", "-o", backup), backup, "keys")
		if st, _ := b.status(); st.Backup.Last == nil || st.Backup.Last.Where != backup {
			t.Errorf("host %s knows of the backup %+v", b.name, st.Backup.Last)
		}
		if _, stderr, code := b.run("backup", "verify", backup); code != 0 {
			t.Errorf("the backup is not good: %s", stderr)
		}
	})

	o := load.finish(t)
	o.requireTraffic(t, 100)
	if len(o.failed) > 0 {
		t.Errorf("%d requests failed: %v", len(o.failed), o.errs)
	}
}

// master returns the redis node that is the master, as a host sees it.
func (h *netnsHost) master() string {
	h.t.Helper()
	st, _ := h.status()
	i := slices.IndexFunc(st.Nodes, func(n supervise.NodeStatus) bool { return n.Role == "master" })
	if i < 0 {
		return ""
	}
	return st.Nodes[i].Name
}

func TestCommandsWhileAnotherHostBeginsToLead(t *testing.T) {
	beside(t, severalHosts)
	c := newThreeHosts(t)
	leader, a, b := c.roles()
	load := startLoadOf(t, c.entries()[0], 60, false)

	c.run("a new version on one host after the other", func(t *testing.T) {
		c.install("two")
		programs := map[string]string{}
		for i, h := range []*netnsHost{a, leader, b} {
			before := h.list()
			requireWords(t, h.must("upgrade"), "host "+h.name+" runs this version now")
			now := h.list()
			if now.PID != before.PID || now.Program == before.Program || now.Leader == "" {
				t.Errorf("host %s was %+v, and is %+v", h.name, before, now)
			}
			programs[now.Program] = h.name
			if i == 1 { // a host of the old version is told what to do, and tells the others
				b.must("drain", "shop-1")
				a.must("undrain", "shop-1")
			}
		}
		if len(programs) != 1 {
			t.Errorf("the hosts run %v", programs)
		}
		requireWords(t, b.must("upgrade"), "already")
		st := a.awaitReady()
		for _, n := range st.Nodes {
			if n.Outdated != "" {
				t.Errorf("%s %s", n.Name, n.Outdated)
			}
		}
	})

	c.run("the leader has just gone", func(t *testing.T) {
		leader, a, b = c.roles()
		leader.killHost()
		end := a.begin("", "status")
		b.must("scale", "shop=3")
		if said, code := end(); !strings.Contains(said, "leads") {
			t.Errorf("exit %d: %s", code, said)
		}
		if n := a.node("shop-3"); n.State != supervise.Up {
			t.Errorf("shop-3 is %s", n.State)
		}
		leader.must("up", "-d")
		leader.awaitReady()
	})

	c.run("the leader goes in the middle of a change", func(t *testing.T) {
		leader, a, b = c.roles()
		before := pids(a.awaitReady())
		end := a.begin("begun", "restart", "shop")
		leader.killHost()
		leader.must("up", "-d")
		if said, code := end(); code != 0 || !strings.Contains(said, "done") {
			t.Errorf("exit %d: %s", code, said)
		}
		for _, n := range b.nodesOf("shop") {
			if n.PID == before[n.Name] || n.State != supervise.Up {
				t.Errorf("%s is %s, pid %d, was %d", n.Name, n.State, n.PID, before[n.Name])
			}
		}
		leader.awaitReady()
	})

	o := load.finish(t)
	o.requireTraffic(t, 100)
	if len(o.failed) > 0 {
		t.Errorf("%d requests failed: %v", len(o.failed), o.errs)
	}

	c.run("a host is away", func(t *testing.T) {
		leader, a, b = c.roles()
		endAll(t, leader.netns) // as when it loses its power
		b.must("scale", "shop=4")
		if n := a.node("shop-4"); n.State != supervise.Up || n.Host == leader.name {
			t.Errorf("shop-4 on host %s is %s", n.Host, n.State)
		}
		c.write(map[string]string{"level": "debug"})
		requireWords(t, a.fails(1, "apply", "--yes", "--file", c.file()), "host "+leader.name+" is away")
		leader.must("up", "-d")
		leader.awaitReady()
	})

	c.run("a host goes in the middle of a restore", c.losesAHostInARestore)

	c.run("down", func(t *testing.T) {
		_, a, _ = c.roles()
		requireWords(t, a.must("down"), "down on all hosts")
		for _, h := range c.hosts {
			h.eventually("host "+h.name+" has ended", func() bool { return !host.Claimed(h.state) })
		}
	})
}

// losesAHostInARestore loses the leading host, or the host with the data, at several moments of a
// restore. The data is then the old or the new one, whole, and the command reports which. After
// "placed" the data is in its place, and no other host has a copy yet.
func (c *threeHosts) losesAHostInARestore(t *testing.T) {
	for _, at := range []struct{ when, lost string }{
		{`"aside"`, "leader"}, {`"moving"`, "data"}, {`"placed"`, "data"},
	} {
		leader, a, b := c.roles()
		if at.when == `"placed"` && a.node(a.master()).Host == leader.name {
			// The supervisor that goes on is the one that began, and its other nodes run on.
			a.must("switchover")
			a.eventually("the master is on another host", func() bool { return a.node(a.master()).Host != leader.name })
		}
		c.set("before")
		backup := filepath.Join(c.dir, "lost.tar")
		a.must("backup", "-o", backup)
		c.set("after")

		lost, asked := leader, a
		if at.lost == "data" {
			lost = c.hosts[a.node(a.master()).Host]
			if lost == a {
				asked = b
			}
		}
		end := asked.begin("Restoring it", "restore", backup, "--yes")
		seen := false
		for until := time.Now().Add(20 * time.Second); !seen && time.Now().Before(until); time.Sleep(time.Millisecond) {
			text, _ := os.ReadFile(filepath.Join(asked.state, "restore.json"))
			seen = strings.Contains(string(text), at.when)
		}
		if !seen {
			t.Errorf("the restore was never at %s", at.when)
		}
		endAll(t, lost.netns)
		said, code := end()
		asked.eventually("another redis node is the master", func() bool { return asked.master() != "" })
		value := "before"
		switch {
		case code == 0:
			requireWords(t, said, "are there")
		case strings.Contains(said, "given up") || at.when == `"aside"` && strings.Contains(said, "nothing was changed"):
			value = "after"
		default:
			t.Errorf("exit %d: %s", code, said)
		}
		t.Logf("host %s (%s) is lost at %s: %q", lost.name, at.lost, at.when, said)
		lost.must("up", "-d")
		lost.awaitReady()
		c.requireValue(value)
		c.awaitNoDecision()
	}
}

// syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
