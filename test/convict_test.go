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

// tries is how many drills may be needed to find what is broken: it does harm
// when an operation falls into a moment, which not every drill hits.
const tries = 4

// convicts repeats a drill until it finds an anomaly of one of those kinds.
func (s *instance) convicts(start func() *drilling, what ...string) {
	s.t.Helper()
	for n := 1; ; n++ {
		v, code := start().verdict()
		if v.Result == "broken" && code == 1 && v.has(what...) {
			return
		}
		if n == tries {
			s.t.Fatalf("none of %d drills finds a %v; the last verdict is %s (exit %d): %v %+v", n, what, v.Result, code, v.Why, v.Anomalies)
		}
		if s.status().Supervisor != 0 { // else it is a stack of the drill's own
			s.awaitHealthy()
		}
	}
}

func TestWritesThatNoReplicaHasAreMissed(t *testing.T) {
	s := newInstance(t, minimal(t)+async)
	s.must("up", "-d")
	s.awaitHealthy()
	s.convicts(func() *drilling { return s.drill("kill-stalled-master") }, "lost write")
	s.clean()
}

// A failover of a healthy master is no switchover: it takes writes that are
// lost, until it hears that it is one no more (redis#6062, #13118).
func TestAPlainSentinelFailoverLosesWrites(t *testing.T) {
	s := newInstance(t, minimal(t)+async)
	s.must("up", "-d")
	s.awaitHealthy()
	s.convicts(func() *drilling {
		d := s.drill("pause-sentinel", "--rate", "1000", "--clients", "60")
		d.phase("pausing sentinel")
		s.plainFailover()
		return d
	}, "lost write", "stale read", "not linearizable", "wrong counter", "wrong set")
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
	if v.Result != "inconclusive" || !v.notes("became master") {
		t.Errorf("the verdict is %s, notices %+v", v.Result, v.Notices)
	}
}

// A master that comes back empty before the Sentinels have missed it empties
// its replicas. Holdfast's supervisor does not let it; here it stands still.
func TestAMasterThatIsWipedAndRevivedIsConvicted(t *testing.T) {
	s := newInstance(t, minimal(t))
	s.must("up", "-d")
	s.awaitHealthy()
	s.convicts(func() *drilling {
		expect(t, s.status().Entry+"/set?key=marker&value=1", 200, "OK. We have set marker to be 1")
		d := s.drill("pause-sentinel")
		d.phase("pausing sentinel")
		s.wipeMaster("marker")
		return d
	}, "lost write")
}

// wipeMaster has the master come back without its data, and reign until no
// replica has that key any more, or the Sentinels have elected another: then
// the replicas were not emptied.
func (s *instance) wipeMaster(key string) {
	s.t.Helper()
	st := s.status()
	master, _ := st.Node(s.master())
	var replicas []string
	for _, n := range st.Nodes {
		if n.Kind == plan.Redis && n.Name != master.Name {
			replicas = append(replicas, n.Address)
		}
	}
	if err := syscall.Kill(st.Supervisor, syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	defer syscall.Kill(st.Supervisor, syscall.SIGCONT)
	kill(s.t, master.PID)
	s.await("nobody listening on "+master.Address, 5*time.Second, func() bool { return !listening(master.Address) })
	dir := filepath.Join(s.state, "nodes", master.Name)
	if err := os.RemoveAll(filepath.Join(dir, "data", "appendonlydir")); err != nil {
		s.t.Fatal(err)
	}
	revived := exec.Command("redis-server", filepath.Join(dir, "redis.conf"), "--include", filepath.Join(dir, "base.conf"), "--replicaof", "no", "one")
	revived.Dir = dir
	var out bytes.Buffer
	revived.Stdout = &out
	if err := revived.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { revived.Wait(); close(ended) }()
	defer func() {
		revived.Process.Kill()
		<-ended
		s.t.Logf("the revived master:\n%s", out.Bytes())
	}()
	s.await("somebody listening on "+master.Address, 5*time.Second, func() bool { return listening(master.Address) })
	s.await("the end of the data, or of the reign", 20*time.Second, func() bool {
		role, err := s.redisAt(master.Address, "role")
		if err == nil && strings.HasPrefix(role, "slave") {
			return true
		}
		for _, address := range replicas {
			role, err := s.redisAt(address, "role")
			if err == nil && strings.HasPrefix(role, "master") {
				return true
			}
			// One that takes its master's data over answers with an error.
			if has, err := s.redisAt(address, "exists", key); err != nil || has != "0" {
				return false
			}
		}
		return true
	})
}

func listening(address string) bool {
	c, err := net.Dial("tcp", address)
	if err == nil {
		c.Close()
	}
	return err == nil
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
	old:   "if !o.writes && !o.local && r.Read != ReadMaster {",
	new:   "if r.MaxLag = 1 << 40; !o.writes {",
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
			s.convicts(func() *drilling {
				cmd := s.command("drill", "--json", "--own", m.fault)
				cmd.Path = program
				return s.startDrill(cmd)
			}, m.found...)
		})
	}
}
