package supervise

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/logs"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/stack"
)

// The tests of pods do not run beside other tests: a process that another test starts holds the
// lock of a state directory for a moment, between fork and exec.

// somePod is the state directory of a pod, with helpers to start the pod.
type somePod struct {
	t         *testing.T
	dir       string
	node      string
	file      stack.Stack
	addresses map[string]string // of the Services
}

func newPod(t *testing.T, node string) *somePod {
	t.Helper()
	p := &somePod{t: t, dir: shortDir(t), node: node, file: stack.Default(), addresses: map[string]string{}}
	p.file.Name = "shop"
	for _, node := range plan.DataNodes(p.file) {
		net := "10.0.1."
		if isRedis(node) {
			net = "10.0.0."
		}
		p.addresses[node] = net + node[len(node)-1:]
	}
	return p
}

func (p *somePod) remember() Remembered {
	p.t.Helper()
	r, err := Remember(p.t.Context(), p.dir, p.node, p.addresses)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// start starts the pod as the pods agreed, and returns what its supervisor remembers and plans.
func (p *somePod) start(agreed plan.Replication) (Remembered, plan.Plan) {
	p.t.Helper()
	s := p.open(agreed)
	defer s.Close()
	if err := s.Prepare(); err != nil {
		p.t.Fatalf("the pod does not start: %v", err)
	}
	return s.Remembered(), s.Plan()
}

// open opens the pod's supervisor. The caller closes it.
func (p *somePod) open(agreed plan.Replication) *Supervisor {
	p.t.Helper()
	return p.openOn(agreed, false)
}

// openOn is open for a Sentinel that may be started on its own file.
func (p *somePod) openOn(agreed plan.Replication, ownFile bool) *Supervisor {
	p.t.Helper()
	pod := plan.Pod{Node: p.node, Kind: plan.Sentinel}
	if isRedis(p.node) {
		pod.Kind = plan.Redis
	}
	of, placed := plan.InPod(p.file, pod, p.addresses, func(string) string { return "" })
	of.Network = stack.Trusted // the test has no certificates
	seed, err := plan.ParseSeed(strings.Repeat("seed", 10))
	if err != nil {
		p.t.Fatal(err)
	}
	secrets, err := seed.Secrets(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	facts := PodFacts{Booted: true, Replication: agreed, OwnFile: ownFile, Ports: plan.PodPorts(pod), Placement: placed, Secrets: secrets}
	if err := PreparePod(p.dir, facts); err != nil {
		p.t.Fatal(err)
	}
	s, err := OpenPod(Config{Stack: of, BaseDir: p.dir, StateDir: p.dir, Self: "/holdfast", Log: slog.New(slog.DiscardHandler), OwnFile: ownFile}, p.node)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// sentinelFile returns the current content of the pod's sentinel.conf.
func (p *somePod) sentinelFile() (f sentinelFile, monitor string) {
	p.t.Helper()
	text, err := os.ReadFile(p.sentinelConf())
	if err != nil {
		p.t.Fatal(err)
	}
	if f, err = parseSentinelFile(string(text)); err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "sentinel monitor ") {
			monitor = strings.TrimSpace(line)
		}
	}
	return f, monitor
}

func (p *somePod) sentinelConf() string {
	return filepath.Join(p.dir, inHome(p.node, sentinelConf))
}

// writes makes text the content of the pod's sentinel.conf.
func (p *somePod) writes(text string) {
	p.t.Helper()
	if err := os.WriteFile(p.sentinelConf(), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// withData gives the pod's redis node data.
func (p *somePod) withData() {
	p.t.Helper()
	file := filepath.Join(p.dir, manifest(p.node))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("file x"), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func TestAPodWithAnEmptyVolumeStartsOnTheMasterThatThePodsAgreedOn(t *testing.T) {
	agreed := plan.Replication{Master: "redis-2", ConfigEpoch: 3, LeaderEpoch: 3, CurrentEpoch: 3}
	for _, node := range []string{"sentinel-1", "redis-1", "redis-3"} {
		p := newPod(t, node)
		r, _ := p.start(agreed)
		if !r.Booted || r.Replication != agreed {
			t.Errorf("%s remembers %+v", node, r)
		}
		if again := p.remember(); again.Replication != agreed {
			t.Errorf("%s remembers %+v at its next start", node, again)
		}
	}
	p := newPod(t, "sentinel-1")
	p.start(agreed)
	f, monitor := p.sentinelFile()
	if want := "sentinel monitor shop " + p.addresses["redis-2"] + " 6379 2"; monitor != want {
		t.Errorf("sentinel.conf has %q, want %q", monitor, want)
	}
	if f.ConfigEpoch != 3 || f.LeaderEpoch != 3 || f.CurrentEpoch != 3 {
		t.Errorf("epochs %+v", f)
	}
}

// The agreement is newer than the pod's own files, even if only this pod has data.
func TestARedisPodWithDataTellsTheMasterThatThePodsAgreedOn(t *testing.T) {
	p := newPod(t, "redis-1")
	p.start(plan.Replication{Master: "redis-1", ConfigEpoch: 1, CurrentEpoch: 1})
	p.withData()
	p.file.Redis.Replicas = 3
	p.addresses["redis-4"] = "10.0.0.40"
	agreed := plan.Replication{Master: "redis-4", ConfigEpoch: 3, CurrentEpoch: 3}
	if r, _ := p.start(agreed); r.Replication != agreed {
		t.Errorf("it remembers %+v", r)
	}
}

// Services were made anew, or nodes came, while the Sentinel ran. So it has recorded addresses
// that did not exist when it was started.
func TestASentinelIsStartedWhateverAddressItsFileNames(t *testing.T) {
	agreed := plan.Replication{Master: "redis-2", ConfigEpoch: 4, LeaderEpoch: 4, CurrentEpoch: 4}
	for _, named := range []string{"10.0.0.99", "10.0.0.40", "10.0.0.1"} {
		p := newPod(t, "sentinel-1")
		p.start(plan.Replication{Master: "redis-2", ConfigEpoch: 3, CurrentEpoch: 3})
		p.writes("sentinel monitor shop " + named + " 6379 2\nsentinel config-epoch shop 4\nsentinel leader-epoch shop 4\nsentinel current-epoch 4\n")
		p.start(agreed)
		f, monitor := p.sentinelFile()
		if want := "sentinel monitor shop " + p.addresses["redis-2"] + " 6379 2"; monitor != want || f.ConfigEpoch != 4 {
			t.Errorf("the file named %s: sentinel.conf has %q, epoch %d", named, monitor, f.ConfigEpoch)
		}
	}
}

func TestWhomASentinelNamedIsKnownByTheAddressOfThenAndOfNow(t *testing.T) {
	start := plan.Replication{Master: "redis-1", ConfigEpoch: 3, CurrentEpoch: 3}
	for name, c := range map[string]struct {
		names  string            // the master's address in the Sentinel's file
		now    map[string]string // Services that have another address now
		master string
	}{
		"as it was":                          {names: "10.0.0.2", master: "redis-2"},
		"where it was, and is not any more":  {names: "10.0.0.2", now: map[string]string{"redis-2": "10.0.0.99"}, master: "redis-2"},
		"where it is now":                    {names: "10.0.0.99", now: map[string]string{"redis-2": "10.0.0.99"}, master: "redis-2"},
		"one that has come since":            {names: "10.0.0.40", now: map[string]string{"redis-4": "10.0.0.40"}, master: "redis-4"},
		"where one was and another one is":   {names: "10.0.0.2", now: map[string]string{"redis-2": "10.0.0.1", "redis-1": "10.0.0.2"}, master: ""},
		"an address that never was a node's": {names: "10.0.0.77", master: ""},
	} {
		p := newPod(t, "sentinel-1")
		p.start(start)
		p.writes("sentinel monitor shop " + c.names + " 6379 2\nsentinel config-epoch shop 4\nsentinel leader-epoch shop 5\nsentinel current-epoch 6\n")
		maps.Copy(p.addresses, c.now)
		want := plan.Replication{Master: c.master, ConfigEpoch: 4, LeaderEpoch: 5, CurrentEpoch: 6}
		if r := p.remember(); r.Replication != want || !r.Booted {
			t.Errorf("%s: %+v, want %+v", name, r, want)
		}
	}
}

// The Sentinel's supervisor has missed the last failover, and the new master is no longer in
// the stack file.
func TestASentinelThatNamesARemovedNodeStartsOnItsOwnFile(t *testing.T) {
	p := newPod(t, "sentinel-1")
	p.file.Redis.Replicas = 3
	p.addresses["redis-4"] = "10.0.0.4"
	p.start(plan.Replication{Master: "redis-1", ConfigEpoch: 4, CurrentEpoch: 4})
	const file = "sentinel monitor shop 10.0.0.4 6379 2\nsentinel config-epoch shop 5\nsentinel leader-epoch shop 5\nsentinel current-epoch 5\n"
	p.writes(file)
	p.file.Redis.Replicas = 2
	delete(p.addresses, "redis-4")
	r := p.remember()
	if r.WatchedMaster != "redis-4" || r.Replication.Master != "redis-4" {
		t.Fatalf("%+v", r)
	}

	s := p.openOn(r.Replication, true)
	defer s.Close()
	if err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(p.sentinelConf()); err != nil || string(now) != file {
		t.Errorf("its file was written anew:\n%s%v", now, err)
	}
	if m := s.persisted.Redis; m.Replication != r.Replication || m.Departed["10.0.0.4:6379"] != "redis-4" || m.Rewriting {
		t.Errorf("it remembers %+v", m)
	}
	// The pod may end before the other Sentinels have named another master.
	if again := p.remember(); again.WatchedMaster != "redis-4" || again.Replication != r.Replication {
		t.Errorf("after its start: %+v", again)
	}

	// A node with another address now is not the one that the file names.
	p.addresses["redis-2"] = "10.0.0.99"
	if r := p.remember(); r.WatchedMaster != "" {
		t.Errorf("a node has moved: %+v", r)
	}
}

// A pod may end between the agreement and its start.
func TestWhatThePodsAgreedOnStandsBeforeTheFilesDo(t *testing.T) {
	p := newPod(t, "sentinel-1")
	p.start(plan.Replication{Master: "redis-1", ConfigEpoch: 3, CurrentEpoch: 3})
	agreed := plan.Replication{Master: "redis-2", ConfigEpoch: 3, LeaderEpoch: 7, CurrentEpoch: 7}
	if err := PreparePod(p.dir, PodFacts{Booted: true, Replication: agreed}); err != nil {
		t.Fatal(err)
	}
	if r := p.remember(); r.Replication != agreed {
		t.Errorf("%+v", r)
	}
}

// Nothing runs when a pod starts, so neither an earlier file matters nor what was stopped in an
// earlier pod.
func TestAPodGoesByTheStackFileThatItIsGiven(t *testing.T) {
	p := newPod(t, "redis-1")
	agreed := plan.Replication{Master: "redis-1", ConfigEpoch: 1, CurrentEpoch: 1}
	_, before := p.start(agreed)
	d := dirAt(p.dir)
	if err := d.writeJSON(runningFile, running{Generation: 3, Stack: string(stack.Default().Show()), BaseDir: p.dir, Plan: before}); err != nil {
		t.Fatal(err)
	}
	if _, _, known, err := d.readRunning(); !known || err != nil {
		t.Fatalf("the file of what ran cannot be read: %v", err)
	}
	if err := hostsAt(p.dir).here.writeRecord(t.Context(), "redis-1", record{Want: wantDown, Restarts: 2}); err != nil {
		t.Fatal(err)
	}
	p.file.Redis.Replicas = 3
	p.addresses["redis-4"] = "10.0.0.40"

	pod := plan.Pod{Node: p.node, Kind: plan.Redis}
	of, _ := plan.InPod(p.file, pod, p.addresses, func(string) string { return "" })
	of.Network = stack.Trusted // the test has no certificates
	s, err := OpenPod(Config{Stack: of, BaseDir: p.dir, StateDir: p.dir, Self: "/holdfast", Log: slog.New(slog.DiscardHandler)}, p.node)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.wanted != nil || s.node("redis-4") == nil {
		t.Errorf("it goes by the earlier file: its nodes are %v", s.names())
	}
	if s.node("redis-1").keepDown.Load() {
		t.Error("redis-1 is kept down, as it was in a pod before")
	}
	if runs, err := s.hosts.anyAlive(t.Context(), everyNode); runs || err != nil {
		t.Errorf("something runs: %v, %v", runs, err)
	}
}

// Other pods would not know a secret that a pod draws.
func TestAPodNeverDrawsASecret(t *testing.T) {
	p := newPod(t, "redis-1")
	p.start(plan.Replication{Master: "redis-1", ConfigEpoch: 1, CurrentEpoch: 1})
	d := dirAt(p.dir)
	k, err := d.readState()
	if err != nil {
		t.Fatal(err)
	}
	k.Secrets.Operator = ""
	if err := d.writeJSON(stateFile, k); err != nil {
		t.Fatal(err)
	}
	of, _ := plan.InPod(p.file, plan.Pod{Node: p.node, Kind: plan.Redis}, p.addresses, func(string) string { return "" })
	of.Network = stack.Trusted // the test has no certificates
	s, err := OpenPod(Config{Stack: of, BaseDir: p.dir, StateDir: p.dir, Self: "/holdfast", Log: slog.New(slog.DiscardHandler)}, p.node)
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "password of operator") {
		t.Errorf("it starts with a secret of its own: %v", err)
	}
}

// KeepLogs would start another log writer, and the end of the container would wait for it.
func TestAPodThatLeavesLeavesTheLogWriterToItsKeeper(t *testing.T) {
	p := newPod(t, "redis-1")
	s := p.open(plan.Replication{Master: "redis-2", ConfigEpoch: 1, CurrentEpoch: 1})
	defer s.Close()
	writer, err := process.Start(process.Spec{Path: "/bin/sleep", Args: []string{"60"}, Dir: p.dir, Log: filepath.Join(p.dir, "words")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = writer.Signal(syscall.SIGKILL)
		<-writer.Done()
	}()
	record, err := json.Marshal(writer.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(logs.Dir(p.dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(logs.Dir(p.dir), "writer.lock"), record, 0o600); err != nil {
		t.Fatal(err)
	}
	if id, known := logs.Running(p.dir); !known || id != writer.ID() {
		t.Fatalf("the log writer that runs is %v, %v", id, known)
	}

	s.Watch()
	if err := s.Leave(t.Context(), "redis-1"); err != nil {
		t.Fatal(err)
	}
	if !process.Alive(writer.ID()) {
		t.Error("the log writer has ended")
	}
}

// A node that outlived its supervisor runs on the earlier agreement.
func TestATakeOverKeepsWhatWasAgreedOn(t *testing.T) {
	p := newPod(t, "redis-1")
	agreed := plan.Replication{Master: "redis-2", ConfigEpoch: 3, LeaderEpoch: 2, CurrentEpoch: 5}
	p.start(agreed)
	d := dirAt(p.dir)
	before, err := d.readState()
	if err != nil {
		t.Fatal(err)
	}
	facts := PodFacts{Outlived: true, Ports: before.Ports, Placement: before.Placement, Secrets: plan.Secrets{Web: "new"}}
	if err := PreparePod(p.dir, facts); err != nil {
		t.Fatal(err)
	}
	now, err := d.readState()
	if err != nil {
		t.Fatal(err)
	}
	if !now.Booted || now.Redis.Replication != agreed || now.Redis.Rewriting || len(now.Redis.Addresses) != len(before.Redis.Addresses) || now.Secrets.Web != "new" {
		t.Errorf("%+v, booted %t; before %+v", now.Redis, now.Booted, before.Redis)
	}
}
