package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/supervise"
)

// shopServer is a program that answers with a word from its environment, and ends as its
// environment says.
const shopServer = `
import os, sys, threading, http.server
end = os.environ.get("END", "")
if end == "start":
    sys.exit("there is no harbour")
if end == "second" and os.environ["HOLDFAST_NODE"] == "shop-2":
    sys.exit("the second mast is missing")
if end == "later":
    threading.Timer(1, lambda: (print("the mast has broken", flush=True), os._exit(3))).start()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ.get("WORD", "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False
Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// visitors request a path of the entry over connections that they keep, and count the answers other
// than 200.
type visitors struct {
	stop   chan struct{}
	all    sync.WaitGroup
	mu     sync.Mutex
	asked  int
	failed map[string]int
}

func visitPath(t *testing.T, url string) *visitors {
	v := &visitors{stop: make(chan struct{}), failed: map[string]int{}}
	for range 5 {
		v.all.Go(func() {
			h := &fasthttp.Client{
				MaxConnsPerHost: 1, MaxIdemponentCallAttempts: 1, ReadTimeout: 15 * time.Second,
				RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
			}
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-v.stop:
					return
				case <-ticker.C:
				}
				_, err := ask(h, url)
				v.mu.Lock()
				if v.asked++; err != nil {
					v.failed[err.Error()]++
				}
				v.mu.Unlock()
			}
		})
	}
	t.Cleanup(v.end)
	return v
}

func (v *visitors) end() {
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	v.all.Wait()
}

// applyStack is a stack whose file is applied again and again under one load.
type applyStack struct {
	*instance
	parts map[string]string // parts of the stack file
}

// set changes parts of the file.
func (a *applyStack) set(parts ...string) {
	for i := 0; i < len(parts); i += 2 {
		a.parts[parts[i]] = parts[i+1]
	}
	a.write(fmt.Sprintf(`name: %s
%stimeouts: {client: %s}
rollout: {settle: %s}
redis: {%s}
apps:
  web: {kv: {}, nodes: %s}
  shop: {command: [python3, shop.py], env: {%s}, grace: 2s, ports: [%s], nodes: %s}
%sroutes:
%s  - {path-prefix: /shop, app: shop}
  - {app: web}
`, a.name, a.parts["entry"], a.parts["client"], a.parts["settle"], a.parts["redis"], a.parts["web"],
		a.parts["env"], a.parts["ports"], a.parts["nodes"], a.parts["apps"], a.parts["routes"]))
}

// pids returns the process ids of the nodes.
func (a *applyStack) pids() map[string]int {
	pids := map[string]int{}
	for _, n := range a.status().Nodes {
		pids[n.Name] = n.PID
	}
	return pids
}

// changedProcesses returns the nodes whose processes have changed, with + for a new node and - for
// one that is gone.
func changedProcesses(before, after map[string]int) string {
	var all []string
	for _, name := range []string{"redis-1", "web-1", "web-2", "web-3", "shop-1", "shop-2", "pages-1", "stock-1", "balancer-1", "balancer-2"} {
		was, had := before[name]
		is, has := after[name]
		switch {
		case has && !had:
			all = append(all, "+"+name)
		case had && !has:
			all = append(all, "-"+name)
		case was != is:
			all = append(all, name)
		}
	}
	return strings.Join(all, " ")
}

// newApplyStack starts such a stack.
func newApplyStack(t *testing.T) *applyStack {
	t.Helper()
	s := newInstance(t, "")
	a := &applyStack{s, map[string]string{
		"entry": minimal(t), "client": "1m", "settle": "300ms", "redis": "", "web": "2", "env": "WORD: one", "ports": "0, 0", "nodes": "2",
	}}
	for name, text := range map[string]string{"shop.py": shopServer, "page.html": "<h1>pages</h1>"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.set("ports", fmt.Sprintf("%d, %d", freePort(t), freePort(t)))
	s.must("up", "-d")
	s.awaitHealthy()
	return a
}

// underVisits runs the cases while clients use the stack, none of whose requests may fail.
func (a *applyStack) underVisits(t *testing.T, cases func(st supervise.Status)) {
	t.Helper()
	st := a.status()
	l := startLoad(t, st.Entry, 50)
	cases(st)
	o := l.finish(t)
	o.requireNothingFailed(t)
	o.requireTraffic(t, 500)
}

func TestTheStackFileIsAppliedUnderLoad(t *testing.T) {
	beside(t, oneStack)
	a := newApplyStack(t)
	a.underVisits(t, func(st supervise.Status) {
		v := visitPath(t, st.Entry+"/shop")
		a.changes(t, st)
		a.refusesInvalidFiles(t)
		v.requireNoFailures(t)
	})
}

func TestAChangeThatIsCutOffGoesOnUnderLoad(t *testing.T) {
	beside(t, oneStack)
	a := newApplyStack(t)
	a.underVisits(t, func(st supervise.Status) {
		a.stopsUnhealthyPrograms(t) // a program that dies by itself takes its requests with it
		v := visitPath(t, st.Entry+"/shop")
		a.survivesSupervisorKill(t)
		a.asksOnTerminal(t)
		a.goesOnInTheMiddle(t)
		v.requireNoFailures(t)
	})
	a.endsWithTheStack(t)
}

// changes are changes of the file, and the nodes that get new processes for each.
func (a *applyStack) changes(t *testing.T, st supervise.Status) {
	for _, c := range []struct {
		what    string
		parts   []string
		touched string
	}{
		{"another environment", []string{"env", "WORD: two"}, "shop-1 shop-2"},
		{"one node more", []string{"web", "3"}, "+web-3"},
		{"limits and routes", []string{"client", "50s", "routes", "  - {path-prefix: /sale, app: shop}\n"}, ""},
		{"memory of Redis", []string{"redis", "memory: 64mb, down-after: 700ms"}, ""},
		{"more applications", []string{
			"apps", "  pages: {files: .}\n  stock: {command: [python3, shop.py], nodes: 1, env: {WORD: stock}}\n",
			"routes", "  - {path-prefix: /stock, app: stock}\n  - {path-suffix: .html, app: pages}\n",
		}, "+pages-1 +stock-1"},
		{"other ports", []string{"ports", fmt.Sprintf("%d, %d", freePort(t), freePort(t))}, "shop-1 shop-2"},
		{"fewer of all", []string{"web", "2", "apps", "", "routes", ""}, "-web-3 -pages-1 -stock-1"},
	} {
		before := a.pids()
		a.set(c.parts...)
		if !a.statusCommand().Differs {
			t.Errorf("%s: status does not say that the file differs", c.what)
		}
		a.must("apply", "--yes")
		// A connection from before the change gets its next answer by the old routes.
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if got := changedProcesses(before, a.pids()); got != c.touched {
			t.Errorf("%s: other processes: %q, want %q", c.what, got, c.touched)
		}
		if a.statusCommand().Differs {
			t.Errorf("%s: status says that the file differs", c.what)
		}
		switch c.what {
		case "another environment":
			expect(t, st.Entry+"/shop", 200, "two")
		case "memory of Redis":
			for _, node := range []string{"redis-1", "redis-2", "redis-3"} {
				if out := a.redisCLI(node, "config", "get", "maxmemory"); !strings.Contains(out, "67108864") {
					t.Errorf("%s: %s", node, out)
				}
			}
			if out := a.redisCLI("sentinel-2", "sentinel", "master", a.name); !strings.Contains(out, "down-after-milliseconds\n700") {
				t.Errorf("sentinel-2: %s", out)
			}
		case "more applications":
			expect(t, st.Entry+"/stock", 200, "stock")
			expect(t, st.Entry+"/page.html", 200, "<h1>pages</h1>")
			if out := a.redisCLI("redis-2", "acl", "list"); !strings.Contains(out, "user app-stock on") {
				t.Errorf("the program has no user: %s", out)
			}
		}
	}
}

// requireNoFailures ends the visits, and fails the test if one of them failed.
func (v *visitors) requireNoFailures(t *testing.T) {
	t.Helper()
	v.end()
	if v.asked < 50 || len(v.failed) > 0 {
		t.Errorf("%d requests to the program, failed: %v", v.asked, v.failed)
	}
}

// stopsUnhealthyPrograms applies programs that do not become healthy: in the end nothing has
// changed.
func (a *applyStack) stopsUnhealthyPrograms(t *testing.T) {
	for _, c := range []struct{ env, settle, word string }{
		{"WORD: bad, END: start", "300ms", "there is no harbour"},
		{"WORD: bad, END: later", "2s", "the mast has broken"},
	} {
		before := a.pids()
		env, settle := a.parts["env"], a.parts["settle"]
		a.set("env", c.env, "settle", c.settle)
		if said := a.fails(1, "apply", "--yes"); !strings.Contains(said, c.word) || !strings.Contains(said, "shop-1: it is what it was") {
			t.Errorf("%s: it says %q", c.env, said)
		}
		if got := changedProcesses(before, a.pids()); got != "shop-1" {
			t.Errorf("%s: other processes: %q", c.env, got)
		}
		expect(t, a.status().Entry+"/shop", 200, "one")
		a.set("env", env, "settle", settle)
	}
	if st := a.statusCommand(); st.Differs || st.Change != nil || st.Stopped == nil || len(st.Stopped.Left) > 0 {
		t.Errorf("%+v", st)
	}

	// The nodes before one that does not come up keep the new version until the stack file is
	// applied again. That this file is then the old one makes no difference.
	env := a.parts["env"]
	a.set("env", "WORD: half, END: second")
	if said := a.fails(1, "apply", "--yes"); !strings.Contains(said, "the second mast is missing") {
		t.Errorf("it says %q", said)
	}
	a.set("env", env)
	if st := a.statusCommand(); st.Differs || st.Stopped == nil || strings.Join(st.Stopped.Left, " ") != "shop-1" {
		t.Errorf("%+v", st)
	}
	if said := a.must("status"); !strings.Contains(said, "shop-1: as that change wanted it, unlike the rest of the stack") {
		t.Errorf("it says %q", said)
	}
	before := a.pids()
	a.must("apply", "--yes")
	if st := a.statusCommand(); changedProcesses(before, a.pids()) != "shop-1" || st.Stopped != nil {
		t.Errorf("other processes: %q, %+v", changedProcesses(before, a.pids()), st)
	}
}

// refusesInvalidFiles applies files that are refused before anything is done.
func (a *applyStack) refusesInvalidFiles(t *testing.T) {
	before := a.pids()
	entry, redis, env := a.parts["entry"], a.parts["redis"], a.parts["env"]
	a.set("redis", "replicas: none")
	a.fails(2, "apply", "--yes")
	// Commands that look or act work without a valid file.
	a.must("status")
	a.must("drain", "shop-1")
	a.must("undrain", "shop-1")
	if said, warning, code := a.run("doctor"); code != 1 || !strings.Contains(said, "the stack file has mistakes") || !strings.Contains(warning, "redis.replicas") {
		t.Errorf("exit code %d, it says %q, %q", code, said, warning)
	}
	a.set("redis", redis, "entry", minimal(t))
	if said := a.fails(1, "apply", "--yes"); !strings.Contains(said, "entry.listen") {
		t.Errorf("it says %q", said)
	}
	ports := a.parts["ports"]
	first, second, _ := strings.Cut(ports, ", ")
	a.set("entry", entry, "ports", second+", "+first)
	if said := a.fails(1, "apply", "--yes"); !strings.Contains(said, "shop-2 of this stack listens there; have shop-2 move to a free port first") {
		t.Errorf("it says %q", said)
	}
	a.set("ports", ports, "env", "WORD: three")
	if said := a.fails(2, "apply"); !strings.Contains(said, "--yes") {
		t.Errorf("it says %q", said)
	}
	var p supervise.ChangePlan
	if err := json.Unmarshal([]byte(a.must("apply", "--plan", "--json")), &p); err != nil || len(p.Steps) != 2 || p.Steps[0].Node != "shop-1" {
		t.Errorf("%+v, %v", p, err)
	}
	a.set("env", env)
	if got := changedProcesses(before, a.pids()); got != "" {
		t.Errorf("other processes: %q", got)
	}
}

// survivesSupervisorKill makes a change whose supervisor is killed in the middle, and one that
// comes while another is under way.
func (a *applyStack) survivesSupervisorKill(t *testing.T) {
	before := a.pids()
	a.set("env", "WORD: three", "settle", "4s")
	first := a.command("apply", "--yes")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("the first node anew", 20*time.Second, func() bool { return a.pids()["shop-1"] != before["shop-1"] && a.status().Change != nil })
	if said := a.fails(1, "apply", "--yes"); !strings.Contains(said, "another change is under way (apply, since") {
		t.Errorf("it says %q", said)
	}
	a.killSupervisor()
	_ = first.Wait()
	if first.ProcessState.ExitCode() != 1 {
		t.Errorf("exit code %d", first.ProcessState.ExitCode())
	}
	a.must("up", "-d")
	if got := changedProcesses(before, a.pids()); got != "shop-1 shop-2" {
		t.Errorf("other processes: %q", got)
	}
	expect(t, a.status().Entry+"/shop", 200, "three")
	if st := a.statusCommand(); st.Differs || st.Change != nil {
		t.Errorf("%+v", st)
	}

	// 'up' does not roll a program that fails over every node, not even when its change was cut off
	// at the first node.
	for _, cut := range []bool{true, false} {
		before = a.pids()
		if cut {
			a.set("env", "WORD: bad, END: start")
			first := a.command("apply", "--yes")
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			a.await("the first node", 20*time.Second, func() bool {
				change := a.status().Change
				return change != nil && change.Node == "shop-1" && a.pids()["shop-1"] != before["shop-1"]
			})
			a.killSupervisor()
			_ = first.Wait()
		} else {
			a.killSupervisor()
			a.set("env", "WORD: bad, END: start")
		}
		if said := a.fails(1, "up", "-d"); !strings.Contains(said, "there is no harbour") || !strings.Contains(said, "shop-1: it is what it was") {
			t.Errorf("it says %q", said)
		}
		if got := changedProcesses(before, a.pids()); got != "shop-1" {
			t.Errorf("cut off: %t: other processes: %q", cut, got)
		}
		expect(t, a.status().Entry+"/shop", 200, "three")
	}
	if !a.statusCommand().Differs {
		t.Error("status does not say that the file differs")
	}
}

// asksOnTerminal makes a change on a terminal: nothing happens before "yes", and Ctrl-C after it
// ends only the command.
func (a *applyStack) asksOnTerminal(t *testing.T) {
	before := a.pids()
	a.set("env", "WORD: four", "settle", "1s")
	for what, keys := range map[string]string{"no answer": "\n", "Ctrl-C": "\x03"} {
		no := a.startOnTerminal("apply")
		a.await("the question", 20*time.Second, func() bool { return strings.Contains(no.output(), "Go on? [y/N]") })
		fmt.Fprint(no.keys, keys)
		if said, code := no.end(t); code != 1 || !strings.Contains(said, "nothing was changed") || changedProcesses(before, a.pids()) != "" {
			t.Errorf("%s: exit code %d, %q", what, code, said)
		}
	}

	yes := a.startOnTerminal("apply")
	a.await("the question", 20*time.Second, func() bool { return strings.Contains(yes.output(), "Go on? [y/N]") })
	fmt.Fprint(yes.keys, "y\n")
	a.await("the first step", 20*time.Second, func() bool { return strings.Contains(yes.output(), "[1/2]") })
	fmt.Fprint(yes.keys, "\x03") // Ctrl-C
	if said, code := yes.end(t); code != 1 || !strings.Contains(said, "the change goes on in the background") || !strings.Contains(said, "status") {
		t.Errorf("after Ctrl-C: exit code %d, %q", code, said)
	}
	a.await("the change that goes on", 30*time.Second, func() bool { return a.status().Change == nil })
	if got := changedProcesses(before, a.pids()); got != "shop-1 shop-2" {
		t.Errorf("other processes: %q", got)
	}
	expect(t, a.status().Entry+"/shop", 200, "four")
}

// goesOnInTheMiddle makes changes that are cut off at two moments: when a new node has its port but
// no balancer knows it, and when the balancers have the new configuration but it has not been
// recorded.
func (a *applyStack) goesOnInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		what, touched string
		parts         []string
		cut           func() bool
	}{
		{"a node has come", "+web-3", []string{"web", "3"}, func() bool {
			n, there := a.status().Node("web-3")
			return there && n.State == supervise.Up
		}},
		{"a balancer reloads", "", []string{"routes", "  - {path-prefix: /dive, app: shop}\n"}, func() bool {
			change := a.status().Change
			return change != nil && change.Action == "reload"
		}},
		{"a node goes", "-web-3", []string{"web", "2", "routes", ""}, func() bool {
			change := a.status().Change
			return change != nil && change.Action == "stop"
		}},
	} {
		before := a.pids()
		a.set(c.parts...)
		cut := a.command("apply", "--yes")
		if err := cut.Start(); err != nil {
			t.Fatal(err)
		}
		a.await(c.what, 20*time.Second, c.cut)
		a.killSupervisor()
		_ = cut.Wait()
		a.must("up", "-d")
		if got := changedProcesses(before, a.pids()); got != c.touched {
			t.Errorf("cut off when %s: other processes: %q, want %q", c.what, got, c.touched)
		}
		if st := a.statusCommand(); st.Differs || st.Change != nil || st.Stopped != nil {
			t.Errorf("cut off when %s: %+v", c.what, st)
		}
		if c.what == "a balancer reloads" {
			http.DefaultTransport.(*http.Transport).CloseIdleConnections() // the old connections would use the old routes
			expect(t, a.status().Entry+"/dive", 200, "four")
		}
	}
}

// endsWithTheStack takes the stack down in the middle of a change.
func (a *applyStack) endsWithTheStack(t *testing.T) {
	before := a.pids()
	a.set("env", "WORD: five", "settle", "1h")
	cut := a.command("apply", "--yes")
	var said strings.Builder
	cut.Stderr = &said
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("the first node anew", 20*time.Second, func() bool { return a.pids()["shop-1"] != before["shop-1"] })
	requireWords(t, a.must("down"), "down after", "A change was under way (apply)", "as the stack file says")
	_ = cut.Wait()
	requireWords(t, said.String(), "the stack is taken down in the middle of the change, after 0 of 2 steps", "as the stack file says")
	a.must("up", "-d")
	expect(t, a.status().Entry+"/shop", 200, "five")
	if st := a.statusCommand(); st.Differs || st.Change != nil {
		t.Errorf("%+v", st)
	}
}
