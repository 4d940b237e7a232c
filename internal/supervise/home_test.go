package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// faultyMachine is a machine with faults that a real one does not show on demand.
type faultyMachine struct {
	machine.Machine
	full    atomic.Bool // no file can be written: the disk is full
	lost    atomic.Bool // no process can be started
	away    atomic.Bool
	silent  atomic.Bool // looking for files and for processes fails
	refuses atomic.Bool // every connection is refused
	crowded atomic.Bool // its disk has no room left
	bare    atomic.Bool // no program is installed
	held    atomic.Bool // every port is taken
	slow    atomic.Bool // listing files takes until the caller's context ends
}

func (m *faultyMachine) Facts(ctx context.Context) (machine.Facts, error) {
	facts, err := m.Machine.Facts(ctx)
	if m.crowded.Load() {
		facts.FreeDisk = 0
	}
	return facts, err
}

func (m *faultyMachine) LookPath(ctx context.Context, name string) (string, error) {
	if m.bare.Load() {
		return "", fmt.Errorf("look for %s: %w", name, exec.ErrNotFound)
	}
	return m.Machine.LookPath(ctx, name)
}

func (m *faultyMachine) Free(ctx context.Context, address string) error {
	if m.held.Load() {
		return machine.ErrTaken
	}
	return m.Machine.Free(ctx, address)
}

func (m *faultyMachine) Write(ctx context.Context, f machine.File) error {
	if m.full.Load() {
		return fmt.Errorf("write %s: %w", f.Name, machine.ErrNoRoom)
	}
	return m.Machine.Write(ctx, f)
}

func (m *faultyMachine) Start(ctx context.Context, spec machine.Spec) (machine.Process, error) {
	if m.lost.Load() {
		return nil, errSilent
	}
	return m.Machine.Start(ctx, spec)
}

var errSilent = errors.New("the host does not answer")

func (m *faultyMachine) Glob(ctx context.Context, pattern string) ([]string, error) {
	for m.slow.Load() && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if m.silent.Load() {
		return nil, errSilent
	}
	return m.Machine.Glob(ctx, pattern)
}

func (m *faultyMachine) Stat(ctx context.Context, name string) (machine.Info, error) {
	if m.silent.Load() {
		return machine.Info{}, errSilent
	}
	return m.Machine.Stat(ctx, name)
}

func (m *faultyMachine) Alive(ctx context.Context, id machine.ID) (bool, error) {
	if m.silent.Load() {
		return false, errSilent
	}
	return m.Machine.Alive(ctx, id)
}

func (m *faultyMachine) Present(context.Context) bool { return !m.away.Load() }

func (m *faultyMachine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.refuses.Load() {
		return nil, machine.ErrRefused
	}
	return m.Machine.Dial(ctx, network, address)
}

// besideFaultyMachine is onTwoHosts where the host two is a faulty machine.
func besideFaultyMachine(t *testing.T, text string) (Config, *faultyMachine) {
	t.Helper()
	two := &faultyMachine{}
	cfg, _, _ := onTwoHosts(t, text, func(host, dir string) machine.Machine {
		if host == "one" {
			return machine.NewLocal(dir)
		}
		two.Machine = machine.NewLocal(dir)
		return two
	})
	cfg.Several = true
	return cfg, two
}

// onFaultyMachine is oneNode on a faulty machine.
func onFaultyMachine(t *testing.T, script string) (*Supervisor, *faultyMachine) {
	t.Helper()
	s, _ := oneNode(t, script)
	m := &faultyMachine{Machine: s.hosts.here.Machine}
	s.hosts.here = home{Machine: m}
	return s, m
}

func TestANodeWhoseHostHasAFullDiskComesUpAndIsWrittenDownLater(t *testing.T) {
	s, m := onFaultyMachine(t, "exec sleep 1000")
	m.full.Store(true)
	s.Watch()
	must(t, s, ActStart)
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Process.PID != 0 {
		t.Fatalf("the record on a full disk: %+v, %v", r, err)
	}

	m.full.Store(false)
	must(t, s, ActPause)
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Process.PID != status(s).PID || r.Want != wantPaused {
		t.Errorf("the record when there is room: %+v, %v", r, err)
	}
}

func TestANodeWhoseHostDoesNotStartItIsTriedAgain(t *testing.T) {
	s, m := onFaultyMachine(t, "exec sleep 1000")
	m.lost.Store(true)
	s.Watch()
	var failed *FailedError
	if err := do(t, s, ActStart); !errors.As(err, &failed) || failed.Detail != "the host does not answer" {
		t.Errorf("it is started: %v", err)
	}
	m.lost.Store(false)
	must(t, s, ActStart)
}

func TestANodeWaitsForItsHost(t *testing.T) {
	s, m := onFaultyMachine(t, "exec sleep 1000")
	m.away.Store(true)
	s.Watch()
	started := make(chan error, 1)
	go func() { started <- s.Do(t.Context(), "web-1", ActStart) }()
	await1(t, s, "it waits", func(st NodeStatus) bool { return strings.Contains(st.Detail, "its host is away") })
	if st := status(s); st.PID != 0 {
		t.Errorf("it runs on a host that is away: %+v", st)
	}
	m.away.Store(false)
	if err := <-started; err != nil {
		t.Errorf("the host is back: %v", err)
	}
}

// If a host does not reply, it is not treated as empty. Otherwise nodes would be started a
// second time, and a redis node would become the master on a guess.
func TestAHostThatDoesNotAnswerIsNotTakenForAnEmptyOne(t *testing.T) {
	s, m := onFaultyMachine(t, "true")
	m.silent.Store(true)
	for what, ask := range map[string]func() error{
		"what runs is looked for":     func() error { _, err := s.hosts.anyAlive(t.Context(), everyNode); return err },
		"orphans are looked for":      func() error { return s.findOrphans() },
		"the master is looked for":    func() error { return s.findLastMaster() },
		"starts are looked for":       func() error { return s.hosts.here.recordLaunched(t.Context(), s.log) },
		"older data is looked for":    func() error { return s.beginCold() },
		"addresses are looked for":    func() error { _, err := s.hosts.recordedAddresses(t.Context()); return err },
		"a first boot is looked for":  func() error { _, err := s.lacksStateFile(nil); return err },
		"a redis node's data is seen": func() error { _, err := s.home("redis-1").empty(t.Context(), "redis-1"); return err },
	} {
		if err := ask(); !errors.Is(err, errSilent) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if part := s.decide(t.Context(), "redis-1", time.Now(), &redisFacts{}); part.Master || !strings.Contains(part.Wait, "does not answer") {
		t.Errorf("a redis node starts as %+v", part)
	}
}

func TestEveryQuestionToANodeGoesThroughItsHost(t *testing.T) {
	s, m := onFaultyMachine(t, "exec sleep 1000")
	s.admins = nil
	p := *s.node("web-1").spec()
	admin := s.newAdmin("web-1", p.Address)
	t.Cleanup(admin.Close)
	m.refuses.Store(true)

	for kind, probe := range map[string]plan.Probe{
		"TCP":     {Kind: plan.ProbeTCP},
		"HTTP":    {Kind: plan.ProbeHTTP, Ready: "/", Live: "/"},
		"HAProxy": {Kind: plan.ProbeHAProxy, Socket: "nodes/web-1/haproxy.sock"},
	} {
		p.Probe = probe
		if r := s.probe(t.Context(), p); r.live || r.ready || !strings.Contains(r.detail, machine.ErrRefused.Error()) {
			t.Errorf("%s: %+v", kind, r)
		}
	}
	if _, err := admin.Standing(t.Context()); !errors.Is(err, machine.ErrRefused) {
		t.Errorf("Redis: %v", err)
	}
}

// twoHosts returns a supervisor of a stack on two hosts, each with its own state directory.
func twoHosts(t *testing.T) (s *Supervisor, one, two home) {
	t.Helper()
	s, _ = oneNode(t, "true")
	one, two = home{Machine: machine.NewLocal(t.TempDir())}, home{Machine: machine.NewLocal(t.TempDir())}
	s.hosts.named = map[string]home{"one": one, "two": two}
	t.Cleanup(func() { one.Close(); two.Close() })
	host := func(name, node string) plan.Host {
		return plan.Host{
			Name: name, Dirs: []string{"logs", "nodes", inHome(node)},
			Files:     []plan.File{{Path: inHome(node, "f"), Mode: 0o600, Content: "of " + node}},
			Processes: []plan.Process{{Node: node, Kind: plan.Web, Program: "sh", Address: "127.0.0.1:1", Args: []string{"-c", "exec sleep 1000"}}},
		}
	}
	s.plan.Hosts = []plan.Host{host("one", "web-1"), host("two", "web-2")}
	s.host = mergeHosts(s.plan.Hosts)
	s.programs = map[programAt]string{{"one", "sh"}: "/none/such", {"two", "sh"}: "/bin/sh"}
	return s, one, two
}

func TestEveryNodeIsOnItsOwnHost(t *testing.T) {
	s, one, two := twoHosts(t)
	if err := s.writeFiles(); err != nil {
		t.Fatal(err)
	}
	for node, on := range map[string]home{"web-1": one, "web-2": two} {
		got, err := on.Read(t.Context(), inHome(node, "f"))
		if err != nil || string(got) != "of "+node {
			t.Errorf("%s has %q, %v", node, got, err)
		}
		if entries, _ := os.ReadDir(on.Path("nodes")); len(entries) != 1 {
			t.Errorf("the host of %s has %v", node, entries)
		}
		if s.home(node) != on {
			t.Errorf("%s is on %s, want %s", node, s.home(node).Path(), on.Path())
		}
	}
	if entries, _ := os.ReadDir(s.dir.path("nodes", "web-2")); len(entries) != 0 {
		t.Errorf("the supervisor's own directory has %v", entries)
	}

	// Each node is started with the program of its host.
	if _, err := s.startProcess(s.processes()[0], nil); err == nil || !strings.Contains(err.Error(), "/none/such") {
		t.Errorf("web-1 is started: %v", err)
	}
	proc, err := s.startProcess(s.processes()[1], []string{"-c", "exec sleep 1000"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proc.SignalGroup(syscall.SIGKILL); <-proc.Done() })
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", proc.ID().PID)); err != nil || cwd != two.Path(inHome("web-2")) {
		t.Errorf("web-2 runs in %s, %v", cwd, err)
	}
}

func TestWhatRunsIsFoundOnEveryHost(t *testing.T) {
	s, one, two := twoHosts(t)
	if err := s.writeFiles(); err != nil {
		t.Fatal(err)
	}
	if runs, err := s.hosts.anyAlive(t.Context(), everyNode); runs || err != nil {
		t.Errorf("something runs before anything is started: %v, %v", runs, err)
	}
	proc, err := s.startProcess(s.processes()[1], []string{"-c", "exec sleep 1000"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proc.SignalGroup(syscall.SIGKILL); <-proc.Done() })
	if err := errors.Join(
		two.writeRecord(t.Context(), "web-2", record{Process: proc.ID(), Want: wantUp, Address: "127.0.0.1:1"}),
		one.writeRecord(t.Context(), "web-1", record{Want: wantDown}),
	); err != nil {
		t.Fatal(err)
	}

	if got, err := s.hosts.recorded(t.Context()); err != nil || !slices.Equal(got, []string{"web-1", "web-2"}) {
		t.Errorf("recorded: %q, %v", got, err)
	}
	if runs, err := s.hosts.anyAlive(t.Context(), everyNode); !runs || err != nil || s.home("web-2").running(t.Context(), "web-2") != "127.0.0.1:1" {
		t.Error("web-2 is not seen to run")
	}
	s.plan.Hosts[1].Processes = nil // it leaves the stack
	s.nodes = map[string]*node{"web-1": newNode(s, s.processes()[0])}
	if err := s.findOrphans(); err != nil {
		t.Fatal(err)
	}
	if len(s.orphans) != 1 || s.orphans[0].node != "web-2" || s.orphans[0].host != two || s.orphans[0].proc.ID() != proc.ID() {
		t.Errorf("orphans: %+v", s.orphans)
	}
}

func TestWhatRedisNodesKnowIsReadOnEveryHost(t *testing.T) {
	s, one, two := twoHosts(t)
	old, now := time.Now().Add(-time.Hour), time.Now()
	for node, c := range map[string]struct {
		on      home
		written time.Time
	}{"redis-1": {one, old}, "redis-2": {two, now}} {
		if err := c.on.MakeDir(t.Context(), filepath.Dir(manifest(node))); err != nil {
			t.Fatal(err)
		}
		aof := filepath.Join(filepath.Dir(manifest(node)), "appendonly.aof.1.incr.aof")
		for _, name := range []string{manifest(node), aof} {
			if err := c.on.Write(t.Context(), machine.File{Name: name, Mode: 0o600, Content: []byte("file")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(c.on.Path(aof), c.written, c.written); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.MakeDir(t.Context(), inHome("sentinel-2")); err != nil {
		t.Fatal(err)
	}
	text := "sentinel monitor shop 127.0.0.1 7002 2\n"
	if err := two.Write(t.Context(), machine.File{Name: inHome("sentinel-2", sentinelConf), Mode: 0o600, Content: []byte(text)}); err != nil {
		t.Fatal(err)
	}

	var nodes []string
	all, err := s.hosts.redisWithData(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range all {
		nodes = append(nodes, with.node)
	}
	if !slices.Equal(nodes, []string{"redis-2", "redis-1"}) {
		t.Errorf("the nodes with data, the newest first: %q", nodes)
	}
	if files, err := s.hosts.sentinelFiles(t.Context()); err != nil || files["sentinel-2"].Address != "127.0.0.1:7002" {
		t.Errorf("the Sentinels' files: %+v", files)
	}
}

// The guard of a fence opens every host as this machine, so that they share one state directory.
func TestHostsThatShareADirectoryHaveEachNodeOnce(t *testing.T) {
	s, _ := oneNode(t, "true")
	s.hosts = openHosts(Config{StateDir: s.dir.root}, []plan.Place{{Name: "a"}, {Name: "b"}})
	t.Cleanup(func() { s.hosts.close() })
	for _, node := range []string{"redis-1", "redis-2"} {
		if err := s.hosts.here.MakeDir(t.Context(), filepath.Dir(manifest(node))); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(
			s.hosts.here.writeRecord(t.Context(), node, record{}),
			s.hosts.here.Write(t.Context(), machine.File{Name: manifest(node), Mode: 0o600, Content: []byte("file")}),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.hosts.recorded(t.Context()); err != nil || !slices.Equal(got, []string{"redis-1", "redis-2"}) {
		t.Errorf("recorded: %q, %v", got, err)
	}
	if got, err := s.hosts.redisWithData(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("with data: %+v, %v", got, err)
	}
}
