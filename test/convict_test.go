package test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// Negative controls: what is broken on purpose has to be found. A checker that
// has never failed proves nothing.

// async is a stack that acknowledges writes which no replica has.
const async = `
apps:
  web:
    kv: {writes: async}
`

func TestWritesThatNoReplicaHasAreMissed(t *testing.T) {
	s := newInstance(t, minimal(t)+async)
	s.must("up", "-d")
	s.awaitHealthy()
	s.drill("kill-stalled-master").convicts("lost write")
	s.clean()
}

// A failover of a healthy master is no switchover: it takes writes that are
// lost, until it hears that it is one no more (redis#6062, #13118).
func TestAPlainSentinelFailoverLosesWrites(t *testing.T) {
	s := newInstance(t, minimal(t)+async)
	s.must("up", "-d")
	s.awaitHealthy()
	// Writes are lost when they fall into the moment between the promotion and
	// the news of it. Not every time one does.
	for attempt := 1; ; attempt++ {
		d := s.drill("pause-sentinel", "--rate", "1000", "--clients", "60")
		d.phase("pausing sentinel")
		s.plainFailover()
		v, code := d.verdict()
		if v.Result == "broken" && code == 1 && v.has("lost write", "stale read", "not linearizable", "wrong counter", "wrong set") {
			return
		}
		if attempt == 4 {
			t.Fatalf("in none of %d failovers the drill found a loss; the last verdict is %s (exit %d): %v %+v", attempt, v.Result, code, v.Why, v.Anomalies)
		}
		s.awaitHealthy()
	}
}

// plainFailover has a Sentinel that does not stand still fail over.
func (s *instance) plainFailover() {
	s.t.Helper()
	for _, n := range s.status().Nodes {
		if n.Kind == plan.Sentinel && !stopped(n.PID) {
			s.redisCLI(n.Name, "sentinel", "failover", s.name)
			return
		}
	}
}

// The same with writes that wait for the replicas is safe, and yet no part of
// the drill.
func TestAPlainSentinelFailoverLosesNothingThatIsInSync(t *testing.T) {
	s := newInstance(t, minimal(t))
	s.must("up", "-d")
	s.awaitHealthy()
	d := s.drill("pause-sentinel", "--rate", "1000", "--clients", "60")
	d.phase("pausing sentinel")
	s.plainFailover()
	v, _ := d.verdict()
	if len(v.Anomalies) > 0 {
		t.Errorf("anomalies: %+v", v.Anomalies)
	}
	if v.Result != "inconclusive" || len(v.Notices) == 0 || !strings.Contains(v.Notices[0].Text, "became master") {
		t.Errorf("the verdict is %s, notices %+v", v.Result, v.Notices)
	}
}

// A master that comes back empty before the Sentinels have missed it empties
// its replicas. Holdfast's supervisor does not let it; here it stands still.
func TestAMasterThatIsWipedAndRevivedIsConvicted(t *testing.T) {
	s := newInstance(t, minimal(t))
	s.must("up", "-d")
	s.awaitHealthy()
	d := s.drill("pause-sentinel")
	d.phase("pausing sentinel")

	master := s.node(s.master())
	supervisor := s.status().Supervisor
	if err := syscall.Kill(supervisor, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(supervisor, syscall.SIGCONT) })
	kill(t, master.PID)
	dir := filepath.Join(s.state, "nodes", master.Name)
	if err := os.RemoveAll(filepath.Join(dir, "data", "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	revived := exec.Command("redis-server", filepath.Join(dir, "redis.conf"), "--include", filepath.Join(dir, "base.conf"), "--replicaof", "no", "one")
	revived.Dir = dir
	var out bytes.Buffer
	revived.Stdout = &out
	if err := revived.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { revived.Wait(); close(ended) }()
	t.Cleanup(func() { revived.Process.Kill(); <-ended })
	s.awaitListening(master.Address)
	time.Sleep(2 * time.Second) // of the empty master's reign
	revived.Process.Kill()
	<-ended
	syscall.Kill(supervisor, syscall.SIGCONT)
	t.Logf("the revived master:\n%s", out.Bytes())
	d.convicts("lost write")
}

func (s *instance) awaitListening(address string) {
	s.t.Helper()
	s.await("somebody listening on "+address, 5*time.Second, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stopped says that a process stands still.
func stopped(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") T ")
}

// mutant is a program that is broken in one place.
type mutant struct {
	name     string
	file     string // below internal/
	old, new string // what is replaced
	fault    string // the drill that has to find it
	found    []string
}

var mutants = []mutant{{
	name:  "acknowledges before the replicas have a write",
	file:  "redis/session.go",
	old:   "s.answer(func(o *operation) bool { return o.writes && o.async || o.state.Load() == finished })",
	new:   "s.answer(all)",
	fault: "kill-stalled-master", found: []string{"lost write"},
}, {
	name:  "carries a repeated request out again",
	file:  "redis/client.go",
	old:   `if o.writes && r.IdempotencyKey != "" {`,
	new:   `if false {`,
	fault: "kill-held-web", found: []string{"wrong counter", "wrong set"},
}, {
	name:  "reads from a replica as if it were the master",
	file:  "redis/client.go",
	old:   "if !o.writes && r.Read != ReadMaster && c.readers.read(ctx, r, o) {",
	new:   "if r.MaxLag = 1 << 40; !o.writes && c.readers.read(ctx, r, o) {",
	fault: "slow-link", found: []string{"stale read", "not linearizable"},
}}

func TestBrokenProgramsAreConvicted(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			s := newInstance(t, minimal(t))
			path := filepath.Join(root, "internal", filepath.FromSlash(m.file))
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(source), m.old) != 1 {
				t.Fatalf("%s does not have %q once: break it elsewhere", m.file, m.old)
			}
			broken := filepath.Join(s.dir, "broken.go")
			if err := os.WriteFile(broken, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: broken}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.dir, "overlay.json"), overlay, 0o644); err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(s.dir, "holdfast")
			build := exec.Command("go", "build", "-overlay", filepath.Join(s.dir, "overlay.json"), "-o", program, "holdfast/cmd/holdfast")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build the broken program: %v\n%s", err, out)
			}
			cmd := s.command("drill", "--json", "--own", m.fault)
			cmd.Path = program
			s.startDrill(cmd).convicts(m.found...)
		})
	}
}
