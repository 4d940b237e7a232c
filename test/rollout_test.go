package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/history"
	clients "holdfast/internal/load"
	"holdfast/internal/supervise"
)

// shopProgram is a user's program. Its file "version" says what it answers with; of
// the version broken it does not start, and as mortal it dies soon after its first
// answer.
const shopProgram = `
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

version = open("version").read().strip()
if version == "broken":
    sys.exit("no database called shop")

def die():
    time.sleep(0.2)
    print("the session store is gone", file=sys.stderr, flush=True)
    os._exit(4)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = " ".join([version, os.environ.get("LEVEL", "-"), os.environ["HOLDFAST_NODE"]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if version == "mortal":
            threading.Thread(target=die, daemon=True).start()
    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    def handle_error(self, request, client_address):
        pass # a check that ends without reading the answer

server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *args: threading.Thread(target=server.shutdown).start())
server.serve_forever()
`

// shop is a stack with that program, under load.
type shop struct {
	*instance
	text string
}

func newShop(t *testing.T) *shop {
	t.Helper()
	text := minimal(t) + `
apps:
  shop:
    command: [python3, -u, app.py]
    release: shop
    nodes: 2
    health: {interval: 200ms}
redis: {enabled: false}
rollout: {settle: 500ms}
`
	s := &shop{newInstance(t, text), text}
	if err := os.Mkdir(filepath.Join(s.dir, "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.put("app.py", shopProgram)
	s.put("version", "one")
	s.must("up", "-d")
	s.awaitHealthy()
	return s
}

// put writes a file of the program.
func (s *shop) put(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "shop", name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// answers are what the entry answers to a number of requests, each once.
func (s *shop) answers(entry string) []string {
	s.t.Helper()
	seen := map[string]bool{}
	for range 20 {
		_, body := get(s.t, entry)
		seen[body] = true
	}
	var all []string
	for a := range seen {
		all = append(all, a)
	}
	slices.Sort(all)
	return all
}

// runs wants these answers from the entry and no other.
func (s *shop) runs(want ...string) {
	s.t.Helper()
	if got := s.answers(s.status().Entry); !slices.Equal(got, want) {
		s.t.Errorf("the entry answers %q, want %q", got, want)
	}
}

// crash kills the supervisor and has the next one take over.
func (s *shop) crash() {
	s.t.Helper()
	s.killSupervisor()
	s.must("up", "-d")
}

// underLoad sends requests while do runs, and wants an answer to each.
func (s *shop) underLoad(do func()) {
	s.t.Helper()
	l, err := clients.New(clients.Config{
		Entries: []string{s.status().Entry}, Prefix: "shop", Rate: 200, Clients: 10, Seed: 1,
		URLs: []clients.URL{{Method: "GET", Path: "/"}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(s.t.Context(), 10*time.Minute)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	defer func() {
		stop()
		<-ended
		failed, all := 0, l.Operations()
		for _, op := range all {
			// What no client had time for was not sent: the machine has other work.
			if op.Outcome != history.OK && op.Client >= 0 {
				if failed++; failed <= 5 {
					s.t.Errorf("a request failed that was sent at %v, at %v: %d %s", op.Start, op.End, op.Status, op.Error)
				}
			}
		}
		s.t.Logf("%d of %d requests failed", failed, len(all))
		if len(all) < 300 {
			s.t.Errorf("only %d requests were sent", len(all))
		}
	}()
	do()
}

// A user's program gets new versions, more nodes and fewer, and no client notices,
// whatever goes wrong.
func TestAProgramChangesUnderLoad(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.comesBackFromAVersionThatDies() // nobody can promise its clients an answer
	s.underLoad(func() {
		s.rollsOut()
		s.comesBackFromABadVersion()
		s.waitsAfterOneNode()
		s.goesOnAfterACrash()
		s.scales()
		s.drains()
		s.keepsWhatWasSaid()
	})
}

func (s *shop) rollsOut() {
	s.put("version", "two")
	s.must("rollout", "shop")
	s.runs("two - shop-1", "two - shop-2")
	s.must("rollout", "shop", "--undo")
	s.runs("one - shop-1", "one - shop-2")

	var versions []struct {
		Number  int
		By      string
		Release string
		Kept    bool
	}
	if err := json.Unmarshal([]byte(s.must("rollout", "shop", "--history", "--json")), &versions); err != nil {
		s.t.Fatal(err)
	}
	by := ""
	for _, v := range versions {
		by += v.By + " "
		if !v.Kept || v.Release == "" {
			s.t.Errorf("of version %d the files are gone", v.Number)
		}
	}
	if by != "up rollout undo " || versions[0].Release != versions[2].Release || versions[0].Release == versions[1].Release {
		s.t.Errorf("the history is %+v", versions)
	}
	says(s.t, s.fails(2, "rollout", "shop", "--undo", "--env", "A=b"), "--undo")
	says(s.t, s.fails(2, "rollout", "cart"), "cart", "shop")
}

func (s *shop) comesBackFromABadVersion() {
	s.put("version", "broken")
	says(s.t, s.fails(1, "rollout", "shop"), "shop-1", "no database called shop", "it is what it was")
	s.runs("one - shop-1", "one - shop-2")

	// The second node cannot have it: the first one gets back what it had.
	s.put("version", "two")
	s.put("app.py", strings.Replace(shopProgram, `version == "broken"`, `os.environ["HOLDFAST_NODE"] == "shop-2"`, 1))
	says(s.t, s.fails(1, "rollout", "shop"), "shop-2", "no database called shop", "run the one before again")
	s.runs("one - shop-1", "one - shop-2")
	s.put("app.py", shopProgram)
}

func (s *shop) comesBackFromAVersionThatDies() {
	s.put("version", "mortal")
	says(s.t, s.fails(1, "rollout", "shop"), "shop-1", "the session store is gone", "it is what it was")
	s.put("version", "one")
	s.runs("one - shop-1", "one - shop-2")
}

func (s *shop) waitsAfterOneNode() {
	s.put("version", "three")
	s.must("rollout", "shop", "--only", "1")
	s.crash()
	if c := s.status().Change; c == nil || c.Held != "shop" {
		s.t.Errorf("the status shows %+v, want a rollout that waits", c)
	}
	says(s.t, s.must("status"), "waits", "--continue")
	s.runs("one - shop-2", "three - shop-1")
	says(s.t, s.fails(1, "scale", "shop=3"), "rollout", "--continue")
	s.must("rollout", "shop", "--continue")
	s.runs("three - shop-1", "three - shop-2")

	s.put("version", "four")
	s.must("rollout", "shop", "--only", "1")
	s.must("rollout", "shop", "--undo")
	s.runs("three - shop-1", "three - shop-2")
}

func (s *shop) goesOnAfterACrash() {
	before := s.node("shop-1")
	s.put("version", "five")
	cmd := s.command("rollout", "shop")
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("the first node's new version", 30*time.Second, func() bool {
		n := s.node("shop-1")
		return n.Release != before.Release && n.PID != before.PID && n.State == supervise.Up
	})
	says(s.t, s.fails(1, "rollout", "shop"), "rollout", "under way")
	s.killSupervisor()
	if err := cmd.Wait(); err == nil {
		s.t.Error("the command did not notice that the supervisor was gone")
	}
	s.must("up", "-d")
	s.runs("five - shop-1", "five - shop-2")
}

func (s *shop) scales() {
	s.must("scale", "shop=3")
	s.runs("five - shop-1", "five - shop-2", "five - shop-3")
	s.crash()
	if r := s.status().RunTime; r == nil || r.Nodes["shop"] != 3 {
		s.t.Errorf("the status shows %+v, want that shop has 3 nodes", r)
	}
	s.must("scale", "shop=2")
	s.runs("five - shop-1", "five - shop-2")
	says(s.t, s.fails(2, "scale", "shop=0"), "shop=0")
	says(s.t, s.fails(2, "scale", "cart=2"), "cart", "shop")
}

func (s *shop) drains() {
	s.must("drain", "shop-1")
	s.runs("five - shop-2")
	s.must("restart", "shop-1", "balancer-1")
	s.crash()
	s.must("restart", "balancer-2")
	s.runs("five - shop-2")
	if n := s.node("shop-1"); !n.Drained || n.State != supervise.Up {
		s.t.Errorf("shop-1 is %+v, want it up and drained", n)
	}
	says(s.t, s.fails(1, "drain", "shop-2"), "shop", "503", "--anyway")
	says(s.t, s.fails(2, "drain", "shop-7"), "shop-7")
	s.must("undrain", "shop-1")
	s.runs("five - shop-1", "five - shop-2")

	pids := func() string { return fmt.Sprint(s.node("shop-1").PID, s.node("shop-2").PID) }
	before := pids()
	s.must("restart", "shop")
	if pids() == before {
		s.t.Error("restart shop has left its nodes as they were")
	}
	says(s.t, s.fails(2, "stop", "shop"), "application", "shop-1")
}

func (s *shop) keepsWhatWasSaid() {
	s.must("rollout", "shop", "--env", "LEVEL=debug")
	s.runs("five debug shop-1", "five debug shop-2")
	says(s.t, s.must("status"), "LEVEL")
	s.must("apply", "--yes")
	s.runs("five debug shop-1", "five debug shop-2")

	// The file has the last word where it changes.
	s.write("name: " + s.name + "\n" + strings.Replace(s.text, "nodes: 2", "nodes: 2\n    env: {LEVEL: info}", 1))
	s.must("apply", "--yes")
	s.runs("five info shop-1", "five info shop-2")
	if r := s.status().RunTime; r != nil {
		s.t.Errorf("the status shows %+v, want nothing", r)
	}
}
