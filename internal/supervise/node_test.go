package supervise

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/process"
)

// oneNode returns a supervisor of one node, web-1, which runs a shell script. A listener of the
// test answers the node's probe. The supervisor does not look after the node yet.
func oneNode(t *testing.T, script string) (*Supervisor, *node) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Process{
		Node: "web-1", Kind: plan.Web, App: "web", Address: l.Addr().String(), Program: "sh", Args: []string{"-c", script},
		StopSignal: "SIGTERM", Grace: 5 * time.Second, Probe: plan.Probe{Kind: plan.ProbeTCP},
	}
	host := plan.Host{Processes: []plan.Process{p}}
	s := &Supervisor{
		dir: dirAt(shortDir(t)), log: slog.New(slog.DiscardHandler), host: host,
		statusBoard: newStatusBoard(plan.Plan{Hosts: []plan.Host{host}}), nodes: map[string]*node{},
		programs: map[programAt]string{{program: "sh"}: "/bin/sh"},
	}
	s.hosts = hostsAt(s.dir.root)
	s.ctx, s.halt = context.WithCancel(context.Background())
	for _, d := range []string{"logs", "nodes/web-1"} {
		if err := os.MkdirAll(s.dir.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n := newNode(s, p)
	s.nodes["web-1"] = n
	t.Cleanup(func() {
		s.halt()
		s.tasks.Wait()
		s.hosts.close()
		l.Close()
		if n.proc != nil {
			n.proc.SignalGroup(syscall.SIGKILL)
			<-n.proc.Done()
		}
	})
	return s, n
}

func do(t *testing.T, s *Supervisor, a Action) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Do(ctx, "web-1", a)
}

func must(t *testing.T, s *Supervisor, a Action) {
	t.Helper()
	if err := do(t, s, a); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
}

func status(s *Supervisor) NodeStatus { return s.statusBoard.snapshot().Nodes[0] }

func await1(t *testing.T, s *Supervisor, what string, cond func(NodeStatus) bool) {
	t.Helper()
	if !clock.Within(10*time.Second, 5*time.Millisecond, func() bool { return cond(status(s)) }) {
		t.Fatalf("not within 10 s: %s: %+v", what, status(s))
	}
}

func TestAFailedNodeIsTriedAgainWhenItsOperatorAsks(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	n.state, n.died = Failed, deaths
	s.Watch()
	must(t, s, ActStart)
	if st := status(s); st.State != Up || st.PID == 0 {
		t.Errorf("after start: %+v", st)
	}
}

func TestANodeWithoutAProcessIsStopped(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	n.state, n.want, n.detail, n.startAt = Failed, wantUp, "no sea is calm", time.Now().Add(time.Hour)
	s.Watch()
	must(t, s, ActStop)
	await1(t, s, "down", func(st NodeStatus) bool { return st.State == Down && st.Detail == "" })
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Want != wantDown || r.Process.PID != 0 {
		t.Errorf("record = %+v, %v", r, err)
	}
}

func TestAKillIsDoneWhenTheProcessIsGone(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	before := status(s).PID
	n.sup.programs[programAt{program: "sh"}] = "/nonexistent" // so it cannot be started again
	must(t, s, ActKill)
	if pid := status(s).PID; pid == before {
		t.Errorf("the process %d is still shown", pid)
	}
}

func TestNothingComesUpWhileTheStackIsTakenDown(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	must(t, s, ActPause)
	if err := s.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, a := range []Action{ActStart, ActRestart, ActPause, ActResume} {
		// This goes around the check of Do, as a command that was under way when Stop began.
		if err := s.send(t.Context(), "web-1", command{action: a}); err != errStopping {
			t.Errorf("%s answers %v", a, err)
		}
	}
	if st := status(s); st.State != Down || st.PID != 0 {
		t.Errorf("after Stop: %+v", st)
	}
	s.halt()
	s.tasks.Wait()
	if n.proc != nil {
		t.Error("it runs")
	}
	if err := s.send(t.Context(), "web-1", command{action: ActKill}); err == nil {
		t.Error("nobody is there, and an answer came")
	}
}

func TestASecondStopKillsWhatTakesItsTime(t *testing.T) {
	for range 5 { // the order of stop and kill must not depend on luck
		s, _ := oneNode(t, "trap '' TERM; while :; do sleep 0.01; done")
		s.Watch()
		must(t, s, ActStart)
		hurry := make(chan struct{})
		close(hurry)
		began := time.Now()
		if err := s.Stop(t.Context(), hurry); err != nil {
			t.Fatal(err)
		}
		if st := status(s); st.State != Down || st.Restarts != 0 || time.Since(began) > 4*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), st)
		}
	}
}

func TestAStoppingNodeIsNotPausedNorResumed(t *testing.T) {
	s, _ := oneNode(t, "trap '' TERM; while :; do sleep 0.01; done")
	s.Watch()
	must(t, s, ActStart)
	stopped := make(chan error, 1)
	go func() { stopped <- s.send(context.Background(), "web-1", command{action: ActStop}) }()
	await1(t, s, "draining", func(st NodeStatus) bool { return st.State == Draining })
	for _, a := range []Action{ActPause, ActResume} {
		if err := do(t, s, a); err == nil || !strings.Contains(err.Error(), "being stopped") {
			t.Errorf("%s answers %v", a, err)
		}
	}
	must(t, s, ActKill)
	if err := <-stopped; err != nil || status(s).State != Down {
		t.Errorf("stop answers %v, %+v", err, status(s))
	}
}

func TestANodeIsNotKilledBeforeItsDrainIsOver(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	var err error
	if n.proc, err = s.startProcess(*n.spec(), n.spec().Args); err != nil {
		t.Fatal(err)
	}
	// The limit covers the wait for another node to be in rotation, then the node's requests,
	// which may take as long as its grace, and then its end.
	for grace, requests := range map[time.Duration]time.Duration{time.Hour: drainLimit, time.Second: time.Second} {
		n.spec().Grace, n.upSince, n.killAt = grace, time.Now(), time.Time{}
		n.terminate()
		if left, want := time.Until(n.killAt), n.sup.rotationLimit()+requests+grace; left < want-time.Second/2 || left > want {
			t.Errorf("with a grace of %v it is killed %v after it was told to stop, want %v", grace, left, want)
		}
	}
}

func TestInAStackThatIsTakenDownNobodyHasToTakeOver(t *testing.T) {
	s, n := oneNode(t, "")
	other := *n.spec()
	other.Node = "web-2"
	s.statusBoard = newStatusBoard(plan.Plan{Hosts: []plan.Host{{Processes: []plan.Process{*n.spec(), other}}}})
	s.statusBoard.update("web-2", func(st *NodeStatus) { st.State = Up })
	s.stopping.Store(true)
	began := time.Now()
	s.awaitRelief(t.Context(), []*haproxy.Client{haproxy.NewClient(s.dir.path("gone.sock"))}, "web-1")
	if took := time.Since(began); took >= leastRotation {
		t.Errorf("it waited %v for a balancer that has ended", took)
	}
}

func TestWhatWasToldToStopIsStoppedByTheNextSupervisor(t *testing.T) {
	s, n := oneNode(t, "")
	proc, err := process.Start(process.Spec{Path: "/bin/sleep", Args: []string{"1000"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	n.adopt(proc, record{Want: wantDown})
	s.Watch()
	await1(t, s, "down", func(st NodeStatus) bool { return st.State == Down && st.PID == 0 })
}

func TestARecordTellsWhatTheProcessWasStartedAs(t *testing.T) {
	s, n := oneNode(t, "")
	proc, err := process.Start(process.Spec{Path: "/bin/sleep", Args: []string{"1000"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	n.adopt(proc, record{Want: wantUp, Plan: "of another stack file"})
	s.Watch()
	must(t, s, ActPause)
	if r, _ := s.home("web-1").readRecord(t.Context(), "web-1"); r.Plan != "of another stack file" || r.Want != wantPaused {
		t.Errorf("record = %+v", r)
	}
}

func TestFactsAreNotKeptForALaterStart(t *testing.T) {
	_, n := oneNode(t, "")
	answer := make(chan error, 2)
	n.command(command{action: ActStart, startFacts: &redisFacts{}, answer: answer})
	if n.startFacts == nil {
		t.Error("a node that starts now does not get the facts")
	}
	n.startFacts = nil
	proc, err := process.Start(process.Spec{Path: "/bin/sleep", Args: []string{"1000"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	n.adopt(proc, record{Want: wantUp})
	n.command(command{action: ActStart, startFacts: &redisFacts{}, answer: answer})
	if n.startFacts != nil {
		t.Error("a node that runs keeps the facts, and would start on them after its death")
	}
}

func TestAnApplicationThatIsNotReadyIsAlive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the database is away", http.StatusServiceUnavailable)
	}))
	s, n := oneNode(t, "")
	p := *n.spec()
	p.Address, p.Probe = server.Listener.Addr().String(), plan.Probe{Kind: plan.ProbeHTTP, Ready: "/ready"}
	if r := s.probe(t.Context(), p); r.ready || !r.live || !strings.Contains(r.detail, "the database is away") {
		t.Errorf("probe = %+v", r)
	}
	server.Close()
	if r := s.probe(t.Context(), p); r.ready || r.live {
		t.Errorf("probe of nobody = %+v", r)
	}
}

func TestDataIsWhatRedisWouldLoad(t *testing.T) {
	d := dirAt(t.TempDir())
	write := func(name, content string) {
		t.Helper()
		path := d.path("nodes", "redis-1", "data", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !isEmpty(t, d, "redis-1") {
		t.Error("no directory counts as data")
	}
	write("dump.rdb", "REDIS0010")
	write("appendonlydir/appendonly.aof.1.base.rdb", "REDIS0010")
	if !isEmpty(t, d, "redis-1") {
		t.Error("files that Redis does not load count as data")
	}
	write("appendonlydir/appendonly.aof.manifest", "file appendonly.aof.1.base.rdb seq 1 type b\n")
	if isEmpty(t, d, "redis-1") {
		t.Error("an append-only file does not count as data")
	}
}

// isEmpty reports whether a redis node of a state directory has no data.
func isEmpty(t *testing.T, d dir, node string) bool {
	t.Helper()
	empty, err := hostsAt(d.root).here.empty(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	return empty
}

func TestAMasterIsNotReadyBeforeTheFirstBootIsWritten(t *testing.T) {
	s, n := oneNode(t, "")
	proc, err := process.Start(process.Spec{Path: "/bin/sleep", Args: []string{"1000"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	n.adopt(proc, record{Want: wantUp})
	s.dir = dirAt(s.dir.path("missing"))
	n.probed(probeResult{proc: proc, live: true, ready: true, role: "master"})
	if n.state == Up || s.booted.Load() || !strings.Contains(n.detail, "booted") {
		t.Errorf("%s, booted %t: %s", n.state, s.booted.Load(), n.detail)
	}
}

// HAProxy's master process loses a signal that arrives while it starts.
func TestABalancerThatHasMissedItsSignalIsToldAgain(t *testing.T) {
	s, n := oneNode(t, `trap 'trap "exit 0" USR1' USR1; : >deaf; while :; do sleep 0.01; done`)
	p := *n.spec()
	p.Kind, p.StopSignal, p.Grace = plan.Balancer, "SIGUSR1", time.Hour
	n.now.Store(&p)
	s.Watch()
	must(t, s, ActStart)
	await1(t, s, "the script to take no first signal", func(NodeStatus) bool {
		_, err := os.Stat(s.dir.path("nodes", "web-1", "deaf"))
		return err == nil
	})
	must(t, s, ActStop)
	if st := status(s); st.State != Down || st.PID != 0 {
		t.Errorf("after stop: %+v", st)
	}
}

// HAProxy's master process, when it is told to reload while it starts, may already have read
// the former files, and loses the signal.
func TestABalancerThatIsToldToReloadWhileItStartsIsToldAgain(t *testing.T) {
	s, n := oneNode(t, `trap 'echo >>reloads' USR2; : >reloads; while :; do sleep 0.01; done`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nothing listens yet, so the node does not come up
	p := *n.spec()
	p.Kind, p.StopSignal, p.Address = plan.Balancer, "SIGTERM", address
	n.now.Store(&p)
	s.Watch()
	started := make(chan error, 1)
	go func() { started <- do(t, s, ActStart) }()
	reloads := func(want int) func(NodeStatus) bool {
		return func(NodeStatus) bool {
			b, err := os.ReadFile(s.dir.path("nodes", "web-1", "reloads"))
			return err == nil && len(b) == want
		}
	}
	await1(t, s, "the script to run", reloads(0))
	other := p
	other.Args = []string{"-c", "exec sleep 1001"} // the record has what the node is to be
	if err := s.send(t.Context(), "web-1", command{action: actReload, spec: &other}); err != nil {
		t.Fatal(err)
	}
	await1(t, s, "the reload", reloads(1))
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	await1(t, s, "another reload once it is up", reloads(2))
	if err := <-started; err != nil {
		t.Error(err)
	}
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Plan != s.digest(other) {
		t.Errorf("the record is %+v, %v", r, err)
	}
}

func TestCrashesAreOfTheSettingsThatANodeHas(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	must(t, s, ActKill)
	await1(t, s, "up again", func(st NodeStatus) bool { return st.State == Up && st.Crashes == 1 })
	must(t, s, ActRestart) // the operator asked for this end
	if st := status(s); st.Restarts != 2 || st.Crashes != 1 {
		t.Errorf("after a restart: %+v", st)
	}
	other := *n.spec()
	other.Args = []string{"-c", "exec sleep 1001"}
	if err := s.send(s.ctx, "web-1", command{action: ActRestart, spec: &other}); err != nil {
		t.Fatal(err)
	}
	if st := status(s); st.Restarts != 3 || st.Crashes != 0 {
		t.Errorf("with other settings: %+v", st)
	}
}
