package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/supervise"
)

// picky is a program that answers 400 to an unknown Host, as Django does if it is not among
// ALLOWED_HOSTS.
const picky = `
import http.server, os, sys, time

time.sleep(float(os.environ.get("BOOT", "0")))

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = self.headers.get("Host", "").split(":")[0] in sys.argv[1].split(",")
        body = b"welcome" if known else b"Invalid HTTP_HOST header"
        self.send_response(200 if known else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// newPicky returns a stack of that program, which knows one host. health is added to its health
// section.
func newPicky(t *testing.T, host, health string) *instance {
	t.Helper()
	s := newInstance(t, fmt.Sprintf(`
entry: {listen: "127.0.0.1:%d"}
apps:
  shop:
    command: [python3, picky.py, %q]
    nodes: 1
    health: {path: /, interval: 100ms%s}
redis: {enabled: false}
`, freePort(t), host, health))
	if err := os.WriteFile(filepath.Join(s.dir, "picky.py"), []byte(picky), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// askHost sends a request to an entry with a Host header.
func askHost(t *testing.T, url, host string) int {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestAProgramThatKnowsOnlyItsOwnHost(t *testing.T) {
	beside(t, oneStack)
	s := newPicky(t, "shop.example", ", host: shop.example")
	s.must("up", "-d")
	if code := askHost(t, s.status().Entry+"/", "shop.example"); code != 200 {
		t.Errorf("it is up, and a client gets %d", code)
	}
}

// A program may send its answer in two parts, as Python's http.server does. The balancers need only
// the first part, but must not reset the connection: the program would log an error at each check.
func TestAHealthCheckResetsNoConnection(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, fmt.Sprintf(`
entry: {listen: "127.0.0.1:%d"}
apps:
  shop:
    command: [python3, slow.py]
    nodes: 1
    health: {path: /, interval: 100ms}
redis: {enabled: false}
`, freePort(t)))
	program := strings.Replace(picky, `self.end_headers()`, `self.end_headers(); time.sleep(0.02)`, 1)
	program = strings.Replace(program, `sys.argv[1].split(",")`, `["localhost"]`, 1)
	program = strings.Replace(program, `self.wfile.write(body)`, `self.wfile.write(body); print("answered", flush=True)`, 1)
	if err := os.WriteFile(filepath.Join(s.dir, "slow.py"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("up", "-d")
	s.await("ten checks", 30*time.Second, func() bool {
		log, err := os.ReadFile(filepath.Join(s.state, "logs", "shop-1.log"))
		if err != nil {
			t.Fatal(err)
		}
		if at := strings.Index(string(log), "Traceback"); at >= 0 {
			t.Fatalf("the program failed at a check:\n%s", log[at:])
		}
		return strings.Count(string(log), "answered") >= 10
	})
}

// A library would send the address of a node as the Host.
func TestAProgramThatTurnsTheBalancersDownIsNotReady(t *testing.T) {
	beside(t, oneStack)
	s := newPicky(t, "127.0.0.1", ", start: 2s")
	stdout, stderr, code := s.run("up", "-d")
	if code != 1 || !strings.Contains(stdout, "400") || !strings.Contains(stdout, "host localhost (health.host)") {
		t.Errorf("up -d: exit %d\n%s%s", code, stdout, stderr)
	}
	if st := s.status(); st.Ready || st.Nodes[0].State == supervise.Up && st.Nodes[0].Name == "shop-1" {
		t.Errorf("every request is 503, and the status is %+v", st)
	}
}

func TestStatusShowsWhatTheBalancersHoldOfANode(t *testing.T) {
	beside(t, oneStack)
	s := newPicky(t, "localhost,127.0.0.1", "")
	s.must("up", "-d")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// Something that the supervisor does not see keeps one balancer from using the node.
	balancer := haproxy.NewClient(filepath.Join(s.state, "nodes", "balancer-2", "haproxy.sock"))
	if err := balancer.SetState(ctx, "shop", "shop-1", haproxy.Maint); err != nil {
		t.Fatal(err)
	}
	s.await("a status that is not ready", 10*time.Second, func() bool { return !s.status().Ready })
	shown, _, code := s.run("status")
	for _, words := range []string{"not ready", "balancer-2 has no server for shop and answers 503: shop-1 is MAINT", "balancer-2 sends it no requests: MAINT"} {
		if code != 1 || !strings.Contains(shown, words) {
			t.Errorf("status: exit %d, without %q:\n%s", code, words, shown)
		}
	}
	if err := balancer.SetState(ctx, "shop", "shop-1", haproxy.Ready); err != nil {
		t.Fatal(err)
	}
	s.await("a status that is ready", 10*time.Second, func() bool {
		st := s.status()
		n, _ := st.Node("shop-1")
		return st.Ready && n.Excluded == ""
	})
}

func TestAnEntryToServersThatAreDownIsNotReady(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, fmt.Sprintf("entry: {listen: \"127.0.0.1:%d\"}\napps:\n  far:\n    servers: [127.0.0.1:1]\n", freePort(t)))
	stdout, stderr, code := s.run("up", "-d")
	if code != 1 || !strings.Contains(stdout, "has no server for far and answers 503: far-1 is DOWN (Layer4 connection problem") {
		t.Errorf("up -d: exit %d\n%s%s", code, stdout, stderr)
	}
}

func TestASlowProgramGetsTheTimeThatItsHealthSays(t *testing.T) {
	beside(t, oneStack)
	s := newPicky(t, "localhost,127.0.0.1", ", start: 1s")
	s.env = []string{"BOOT=6"}
	_, stderr, code := s.run("up", "-d")
	if code != 1 {
		t.Errorf("up -d after 1 s: exit %d: %s", code, stderr)
	}
	st := s.status()
	if n, _ := st.Node("shop-1"); n.State != supervise.Starting || n.Until.IsZero() {
		t.Errorf("it starts, and the status says %+v", n)
	}
	requireWords(t, s.fails(1, "restart", "shop-1"), "shop-1 is not ready after 1s", "apps.shop.health.start")
	s.must("down")

	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(strings.Replace(string(text), "start: 1s", "start: 60s", 1))
	stdout, stderr, code := s.run("up", "-d")
	if code != 0 || !strings.Contains(stderr, "left: health.start") {
		t.Errorf("up -d: exit %d, and it does not show what it waits for\n%s%s", code, stdout, stderr)
	}
}
