package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/history"
	clients "holdfast/internal/load"
	"holdfast/internal/supervise"
)

// shopProgram is a user's program. Its file "version" determines its answers. With the version
// "broken" it does not start, and with "mortal" it dies soon after its first answer.
const shopProgram = `
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

version = open("version").read().strip()
if version == "broken":
    sys.exit("no database called shop")
if os.path.exists("../brake"): # beside its release
    sys.exit("the brake is on")

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
print("the former one has left")
`

// shop is a stack with that program, under load.
type shop struct {
	*instance
	text string
}

func newShop(t *testing.T, version string) *shop {
	t.Helper()
	text := minimal(t) + `
apps:
  shop:
    command: [python3, -u, app.py]
    release: shop
    nodes: 2
    health: {interval: 200ms}
redis: {enabled: false}
rollout: {settle: 300ms}
`
	s := &shop{newInstance(t, text), text}
	s.onSmallDisk()
	if err := os.Mkdir(filepath.Join(s.dir, "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.put("app.py", shopProgram)
	s.put("version", version)
	s.must("up", "-d")
	s.awaitHealthy()
	return s
}

// onSmallDisk gives the stack a disk of its own for its state, if the test may do that.
func (s *shop) onSmallDisk() {
	s.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Mkdir(s.state, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.state, "tmpfs", 0, "size=120m,mode=700"); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { // before newInstance's cleanup, because a mounted directory cannot be removed
		if s.t.Failed() {
			s.dumpLogs()
		}
		s.purge()
		if err := syscall.Unmount(s.state, 0); err != nil {
			s.t.Error(err)
			_ = syscall.Unmount(s.state, syscall.MNT_DETACH)
		}
	})
}

// put writes a file of the program.
func (s *shop) put(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "shop", name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// distinctAnswers returns the different answers of the entry to a number of requests.
func (s *shop) distinctAnswers(entry string) []string {
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

// requireAnswers checks that the entry gives exactly these answers.
func (s *shop) requireAnswers(want ...string) {
	s.t.Helper()
	if got := s.distinctAnswers(s.status().Entry); !slices.Equal(got, want) {
		s.t.Errorf("the entry answers %q, want %q", got, want)
	}
}

// crash kills the supervisor, and the next one takes over.
func (s *shop) crash() {
	s.t.Helper()
	s.killSupervisor()
	s.must("up", "-d")
}

// underLoad sends requests while do runs, and checks that each is answered.
func (s *shop) underLoad(do func()) {
	s.t.Helper()
	l, err := clients.New(clients.Config{
		Entries: []string{s.status().Entry}, Prefix: "shop", Rate: 100, Clients: 10, Seed: 1,
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
			// A client that had no time sent nothing, because the machine is busy.
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

// A user's program gets new versions, and no client notices, whatever goes wrong.
func TestAProgramGetsNewVersionsUnderLoad(t *testing.T) {
	beside(t, oneStack)
	s := newShop(t, "one")
	s.comesBackFromAVersionThatDies() // this version may cost requests
	s.underLoad(func() {
		s.rollsOut()
		s.comesBackFromABadVersion()
		s.waitsAfterOneNode()
		s.goesOnAfterACrash()
	})
}

// Clients do not notice either that it gets more or fewer nodes, or restarts.
func TestAProgramsNodesChangeUnderLoad(t *testing.T) {
	beside(t, oneStack)
	s := newShop(t, "five")
	s.underLoad(func() {
		s.scales()
		s.drains()
		s.goesOnAfterCtrlC()
		s.stopsARestart()
		s.rollsOutWithMoreNodes()
		s.comesBackFromAFullDisk()
		s.keepsWhatWasSaid()
	})
}

func (s *shop) rollsOut() {
	s.put("version", "two")
	s.must("rollout", "shop")
	s.requireAnswers("two - shop-1", "two - shop-2")
	s.must("rollout", "shop", "--undo")
	s.requireAnswers("one - shop-1", "one - shop-2")

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
	requireWords(s.t, s.fails(2, "rollout", "shop", "--undo", "--env", "A=b"), "--undo")
	requireWords(s.t, s.fails(2, "rollout", "cart"), "cart", "shop")
}

func (s *shop) comesBackFromABadVersion() {
	s.put("version", "broken")
	said := s.fails(1, "rollout", "shop")
	requireWords(s.t, said, "shop-1", "no database called shop", "it is what it was")
	if strings.Contains(said, "the former one has left") {
		s.t.Errorf("the last words have some of an earlier process: %s", said)
	}
	s.requireAnswers("one - shop-1", "one - shop-2")

	// The second node fails with it, so the first one gets its old version back.
	s.put("version", "two")
	s.put("app.py", strings.Replace(shopProgram, `version == "broken"`, `os.environ["HOLDFAST_NODE"] == "shop-2"`, 1))
	requireWords(s.t, s.fails(1, "rollout", "shop"), "shop-2", "no database called shop", "run the one before again")
	s.requireAnswers("one - shop-1", "one - shop-2")

	// An impossible rollout is a usage error before anything is copied.
	if err := os.Remove(filepath.Join(s.dir, "shop", "app.py")); err != nil {
		s.t.Fatal(err)
	}
	s.put("app.sh", "exec python3 -u app.py")
	requireWords(s.t, s.fails(2, "rollout", "shop", "--command", "./app.bin"), "apps.shop.command", "app.bin", "does not exist")
	requireWords(s.t, s.fails(2, "rollout", "shop", "--command", "app.sh"), "apps.shop.command", "write ./app.sh")
	for _, args := range [][]string{
		{"scale", "shop=100000"}, {"rollout", "shop", "--only", "2"}, {"rollout", "shop", "--env", "HOLDFAST_NODE=x"},
		{"rollout", "shop", "--env", "A B=c"}, {"drain", "balancer-1"}, {"undrain", "shop-7"}, {"undrain", "balancer-1"},
	} {
		s.fails(2, args...)
	}
	s.put("app.py", shopProgram)
	s.put("version", "one")
	// The command differs from the one that the copied files have: the advice tells how to change
	// both at once.
	s.write("name: " + s.name + "\n" + strings.Replace(s.text, "[python3, -u, app.py]", "[./shop, app.py]", 1))
	s.put("shop", "#!/usr/bin/env python3\n"+shopProgram)
	if err := os.Chmod(filepath.Join(s.dir, "shop", "shop"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	requireWords(s.t, s.fails(1, "apply", "--yes"), "apps.shop.release", "does not exist", "rollout shop", "--command")
	s.must("rollout", "shop", "--command", "./shop app.py")
	s.must("apply", "--yes")
	s.write("name: " + s.name + "\n" + s.text)
	s.must("apply", "--yes")
	s.requireAnswers("one - shop-1", "one - shop-2")
}

func (s *shop) comesBackFromAVersionThatDies() {
	s.put("version", "mortal")
	requireWords(s.t, s.fails(1, "rollout", "shop"), "shop-1", "the session store is gone", "it is what it was")
	s.put("version", "one")
	s.requireAnswers("one - shop-1", "one - shop-2")
}

func (s *shop) waitsAfterOneNode() {
	s.put("version", "three")
	s.must("rollout", "shop", "--only", "1")
	s.crash()
	if c := s.status().Change; c == nil || c.Held != "shop" {
		s.t.Errorf("the status shows %+v, want a rollout that waits", c)
	}
	requireWords(s.t, s.must("status"), "waits", "--continue")
	s.requireAnswers("one - shop-2", "three - shop-1")
	requireWords(s.t, s.fails(1, "scale", "shop=3"), "rollout", "--continue")
	s.must("rollout", "shop", "--continue")
	s.requireAnswers("three - shop-1", "three - shop-2")

	s.put("version", "four")
	s.must("rollout", "shop", "--only", "1")
	s.must("rollout", "shop", "--undo")
	s.requireAnswers("three - shop-1", "three - shop-2")
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
	requireWords(s.t, s.fails(1, "rollout", "shop"), "rollout", "under way")
	s.killSupervisor()
	if err := cmd.Wait(); err == nil {
		s.t.Error("the command did not notice that the supervisor was gone")
	}
	s.must("up", "-d")
	s.requireAnswers("five - shop-1", "five - shop-2")
}

func (s *shop) scales() {
	s.must("scale", "shop=3")
	s.requireAnswers("five - shop-1", "five - shop-2", "five - shop-3")
	s.crash()
	if r := s.status().RunTime; r == nil || r.Nodes["shop"] != 3 {
		s.t.Errorf("the status shows %+v, want that shop has 3 nodes", r)
	}
	s.must("scale", "shop=2")
	s.requireAnswers("five - shop-1", "five - shop-2")
	requireWords(s.t, s.fails(2, "scale", "shop=0"), "shop=0")
	requireWords(s.t, s.fails(2, "scale", "cart=2"), "cart", "shop")
}

func (s *shop) drains() {
	s.must("drain", "shop-1")
	s.requireAnswers("five - shop-2")
	s.must("restart", "shop-1", "balancer-1")
	s.crash()
	s.must("restart", "balancer-2")
	s.requireAnswers("five - shop-2")
	if n := s.node("shop-1"); !n.Drained || n.State != supervise.Up {
		s.t.Errorf("shop-1 is %+v, want it up and drained", n)
	}
	requireWords(s.t, s.fails(1, "drain", "shop-2"), "shop", "503", "--anyway")
	requireWords(s.t, s.fails(2, "drain", "shop-7"), "shop-7")
	requireWords(s.t, s.fails(1, "scale", "shop=1"), "of shop only shop-1 would stay", "503 without shop-2")
	requireWords(s.t, s.must("doctor"), "shop-1 is drained", "undrain shop-1")
	s.must("undrain", "shop-1")
	s.requireAnswers("five - shop-1", "five - shop-2")

	pids := func() string { return fmt.Sprint(s.node("shop-1").PID, s.node("shop-2").PID) }
	before := pids()
	s.must("restart", "shop")
	if pids() == before {
		s.t.Error("restart shop has left its nodes as they were")
	}

	// Before the only serving node restarts, an additional one starts.
	s.must("stop", "shop-2")
	s.must("restart", "shop")
	s.must("start", "shop-2")
	s.requireAnswers("five - shop-1", "five - shop-2")
	requireWords(s.t, s.fails(2, "stop", "shop"), "application", "shop-1")
}

func (s *shop) goesOnAfterCtrlC() {
	before := s.node("shop-2")
	s.put("version", "six")
	cmd := s.command("rollout", "shop")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("the rollout", 20*time.Second, func() bool { c := s.status().Change; return c != nil && c.Node != "" })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		s.t.Errorf("after Ctrl-C: exit code %d", code)
	}
	requireWords(s.t, said.String(), "interrupted", "the rollout goes on in the background", "status")
	s.await("the rollout that goes on", 30*time.Second, func() bool { return s.status().Change == nil })
	if s.node("shop-2").PID == before.PID {
		s.t.Error("it did not go on")
	}
	s.requireAnswers("six - shop-1", "six - shop-2")
}

// stopsARestart restarts all nodes while the first one does not come up again.
func (s *shop) stopsARestart() {
	other := s.node("shop-2").PID
	brake := filepath.Join(s.state, "releases", "shop", "brake")
	if err := os.WriteFile(brake, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	requireWords(s.t, s.fails(1, "restart", "shop"), "restart shop-1", "the brake is on", "no other node was touched")
	s.requireAnswers("six - shop-2")
	if pid := s.node("shop-2").PID; pid != other {
		s.t.Errorf("shop-2 is %d, and was %d", pid, other)
	}
	if err := os.Remove(brake); err != nil {
		s.t.Fatal(err)
	}
	s.must("start", "shop-1")
	s.requireAnswers("six - shop-1", "six - shop-2")
}

// rollsOutWithMoreNodes is a rollout during which additional nodes serve.
func (s *shop) rollsOutWithMoreNodes() {
	s.text = strings.Replace(s.text, "settle: 300ms", "settle: 300ms, surge: 2", 1)
	s.write("name: " + s.name + "\n" + s.text)
	s.must("apply", "--yes")
	s.put("version", "seven")
	cmd := s.command("rollout", "shop")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	most, least := 0, 100 // the number of nodes, and of nodes that serve
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.await("the end of the rollout", 60*time.Second, func() bool {
		nodes, up := 0, 0
		for _, n := range s.status().Nodes {
			if n.App == "shop" {
				nodes++
				if n.State == supervise.Up {
					up++
				}
			}
		}
		most, least = max(most, nodes), min(least, up)
		return len(ended) > 0
	})
	if err := <-ended; err != nil {
		s.t.Errorf("%v: %s", err, said.String())
	}
	if most != 4 || least < 2 {
		s.t.Errorf("there were %d nodes at most, want 4, and %d served at least, want 2", most, least)
	}
	s.requireAnswers("seven - shop-1", "seven - shop-2")
	requireWords(s.t, said.String(), "start shop-3: done", "stop shop-4: done")
	s.text = strings.Replace(s.text, ", surge: 2", "", 1)
	s.write("name: " + s.name + "\n" + s.text)
	s.must("apply", "--yes")
}

// comesBackFromAFullDisk is a rollout in the middle of which the disk of the state directory
// becomes full.
func (s *shop) comesBackFromAFullDisk() {
	before := s.node("shop-1").PID
	s.put("version", "eight")
	if os.Geteuid() != 0 {
		s.must("rollout", "shop")
		return
	}
	cmd := s.command("rollout", "shop")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("the first node anew", 20*time.Second, func() bool { pid := s.node("shop-1").PID; return pid != 0 && pid != before })
	ballast := filepath.Join(s.state, "ballast")
	fill(s.t, ballast)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		s.t.Errorf("on a full disk: exit code %d", code)
	}
	requireWords(s.t, said.String(), "no space left on device")
	for _, a := range s.distinctAnswers(s.status().Entry) {
		if !strings.HasPrefix(a, "seven") && !strings.HasPrefix(a, "eight") {
			s.t.Errorf("the entry answers %q", a)
		}
	}
	requireWords(s.t, s.fails(1, "rollout", "shop"), "free")
	if err := os.Remove(ballast); err != nil {
		s.t.Fatal(err)
	}
	s.crash()
	s.must("rollout", "shop")
	s.requireAnswers("eight - shop-1", "eight - shop-2")
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 16
		}
	}
}

func (s *shop) keepsWhatWasSaid() {
	s.must("rollout", "shop", "--env", "LEVEL=debug")
	s.requireAnswers("eight debug shop-1", "eight debug shop-2")
	requireWords(s.t, s.must("status"), "LEVEL")
	s.must("apply", "--yes")
	s.requireAnswers("eight debug shop-1", "eight debug shop-2")

	// A change in the file overrides the setting made at run time.
	s.write("name: " + s.name + "\n" + strings.Replace(s.text, "nodes: 2", "nodes: 2\n    env: {LEVEL: info}", 1))
	s.must("apply", "--yes")
	s.requireAnswers("eight info shop-1", "eight info shop-2")
	if r := s.status().RunTime; r != nil {
		s.t.Errorf("the status shows %+v, want nothing", r)
	}
}
