package test

import (
	"bytes"
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
	"holdfast/internal/redis/redistest"
	"holdfast/test/mutants"
)

// These are negative controls: what is broken on purpose has to be found. A checker that has never
// failed proves nothing.

// asyncStack is a stack that acknowledges writes that no replica has.
const asyncStack = `
apps:
  web:
    kv: {writes: async}
`

// maxDrills is how many drills may be needed to find what is broken. It does harm when an operation
// falls into a certain moment, which not every drill hits.
const maxDrills = 4

// detectsAnomaly repeats a drill until it finds an anomaly of one of these kinds.
func (s *instance) detectsAnomaly(start func() *runningDrill, what ...string) {
	s.t.Helper()
	for n := 1; ; n++ {
		d := start()
		var v drillResult
		code := d.wait()
		// The fault may already harm the first requests, which find out whether a drill is
		// possible.
		if early := "as if nothing had been written"; code != 2 || !strings.Contains(d.log(), early) {
			v, code = d.verdict()
		}
		if v.Result == "broken" && code == 1 && v.hasAnomaly(what...) {
			return
		}
		if n == maxDrills {
			s.t.Fatalf("none of %d drills finds a %v; the last verdict is %q (exit %d): %v %+v", n, what, v.Result, code, v.Why, v.Anomalies)
		}
		if s.status().Supervisor != 0 { // otherwise it is a stack of the drill's own
			s.awaitHealthy()
		}
	}
}

func TestWritesThatNoReplicaHasAreMissed(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t)+asyncStack)
	s.detectsAnomaly(func() *runningDrill { return s.drill("kill-stalled-master") }, "lost write")
	s.requireNothingLeft()
}

// A forced failover of a healthy master is not a switchover: until the old master learns that it
// was replaced, it takes writes, which are lost (redis#6062, #13118).
func TestAPlainSentinelFailoverLosesWrites(t *testing.T) {
	s, _ := runningInstance(t, minimal(t)+asyncStack)
	s.detectsAnomaly(func() *runningDrill {
		d := s.drill("pause-sentinel", "--rate", "1000", "--clients", "60")
		d.awaitPhase("pausing sentinel")
		s.plainFailover()
		return d
	}, "lost write", "stale read", "not linearizable", "wrong counter", "wrong set")
}

// plainFailover makes a Sentinel that is not stopped fail over.
func (s *instance) plainFailover() {
	s.t.Helper()
	for _, n := range s.status().Nodes {
		if n.Kind == plan.Sentinel && !stopped(n.PID) {
			s.redisCLI(n.Name, "sentinel", "failover", s.name)
			return
		}
	}
}

// The same with writes that wait for the replicas is safe, even though the drill did not do it.
func TestAPlainSentinelFailoverLosesNothingThatIsInSync(t *testing.T) {
	s, _ := runningInstance(t, minimal(t))
	d := s.drill("pause-sentinel", "--rate", "1000", "--clients", "60")
	d.awaitPhase("pausing sentinel")
	s.plainFailover()
	v, _ := d.verdict()
	if len(v.Anomalies) > 0 {
		t.Errorf("anomalies: %+v", v.Anomalies)
	}
	if v.Result != "inconclusive" || !v.hasNotice("became master") {
		t.Errorf("the verdict is %s, notices %+v", v.Result, v.Notices)
	}
}

// A master that comes back empty before the Sentinels miss it empties its replicas. Holdfast's
// supervisor prevents that, but here it is stopped.
func TestAMasterThatIsWipedAndRevivedIsConvicted(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t))
	s.detectsAnomaly(func() *runningDrill {
		expect(t, s.status().Entry+"/set?key=marker&value=1", 200, "OK. We have set marker to be 1")
		d := s.drill("pause-sentinel")
		d.awaitPhase("pausing sentinel")
		s.wipeMaster("marker")
		return d
	}, "lost write")
}

// wipeMaster makes the master come back without its data. It stays master until no replica has that
// key any more, or until the Sentinels have elected another one, so that the replicas were not
// emptied.
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
	revived := exec.Command(redistest.Program("server"), filepath.Join(dir, "redis.conf"), "--include", filepath.Join(dir, "base.conf"), "--replicaof", "no", "one")
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
			// A replica that is loading its master's data answers with an error.
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

// stopped reports whether a process is stopped.
func stopped(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") T ")
}

// These are three of the mutants (see 'make mutants' for all). They break acknowledging, repeating
// and reading.
func TestBrokenProgramsAreConvicted(t *testing.T) {
	beside(t, oneStack)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ack-before-wait", "key-ignored", "replica-as-master"} {
		t.Run(name, func(t *testing.T) { // one at a time, because each drill needs the machine
			m, there := mutants.Named(name)
			if !there {
				t.Fatal("there is no such mutant")
			}
			s := newInstance(t, minimal(t))
			overlay, err := m.Overlay(root, s.dir)
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(s.dir, "holdfast")
			// Without the profile and C the build shares what the linter has built.
			build := exec.Command("go", "build", "-pgo=off", "-overlay", overlay, "-o", program, "holdfast/cmd/holdfast")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build the broken program: %v\n%s", err, out)
			}
			s.detectsAnomaly(func() *runningDrill {
				cmd := s.command("drill", "--json", "--own", m.Fault)
				cmd.Path = program
				return s.startDrill(cmd)
			}, m.Found...)
		})
	}
}
