package test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/host"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// loopHost is a host of a stack of several, in this process and at a loopback address of its own.
// It has a supervisor while it leads.
type loopHost struct {
	*host.Host
	name, state string
	sup         atomic.Pointer[supervise.Supervisor]
	lead        atomic.Pointer[host.Leadership]
	end         context.CancelFunc
	logs        sync.WaitGroup
}

// loopStack is a stack of three such hosts.
type loopStack struct {
	t     *testing.T
	file  stack.Stack
	dir   string
	hosts map[string]*loopHost
}

func newLoopStack(t *testing.T, more string) *loopStack {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	net := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250))
	text := fmt.Sprintf("name: t%d-%d\nentry: {listen: \"0.0.0.0:%d\", auth: none}\nhosts:\n  one: {address: %[4]s.1}\n  two: {address: %[4]s.2}\n  three: {address: %[4]s.3}\n%[5]s",
		os.Getpid(), instances.Add(1), freePort(t), net, more)
	file, _, err := stack.Parse("holdfast.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	l := &loopStack{t: t, file: file, dir: dir, hosts: map[string]*loopHost{}}
	t.Cleanup(l.end)
	first := file.Hosts[0]
	state := filepath.Join(dir, first.Name)
	if err := host.InitFirst(state, file.Name, first.Name, netip.AddrPortFrom(netip.MustParseAddr(first.Address), host.Port), time.Now()); err != nil {
		t.Fatal(err)
	}
	l.open(first.Name, state)
	return l
}

// join makes another host of the file join.
func (l *loopStack) join(name string) {
	l.t.Helper()
	var address netip.Addr
	for _, h := range l.file.Hosts {
		if h.Name == name {
			address = netip.MustParseAddr(h.Address)
		}
	}
	var invited host.Invited
	l.eventually("a host invites "+name, func() error {
		var err error
		for _, h := range l.hosts {
			if invited, err = h.Invite(l.t.Context(), name, address, time.Minute); err == nil {
				return nil
			}
		}
		return err
	})
	state := filepath.Join(l.dir, name)
	if _, err := host.Join(l.t.Context(), state, invited.Token); err != nil {
		l.t.Fatal(err)
	}
	l.open(name, state)
}

func (l *loopStack) open(name, state string) {
	l.t.Helper()
	h := &loopHost{name: name, state: state}
	log := slog.New(slog.NewTextHandler(&patientWriter{l.t.Output()}, nil)).With("host", name)
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	if err := os.MkdirAll(filepath.Join(state, "logs"), 0o700); err != nil {
		l.t.Fatal(err)
	}
	h.logs.Go(func() { supervise.KeepLogs(ctx, state, binary, os.Environ(), log) })
	var err error
	h.Host, err = host.Open(host.Config{
		State: state, Version: "test", Self: binary, Log: log,
		Lead: func(ctx context.Context, lead host.Leadership) error { return l.lead(ctx, h, lead, log) },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.hosts[name] = h
}

// patientWriter accepts writes even after the test.
type patientWriter struct{ io.Writer }

func (w *patientWriter) Write(p []byte) (n int, err error) {
	defer func() { _ = recover() }()
	return w.Writer.Write(p)
}

func (l *loopStack) lead(ctx context.Context, h *loopHost, lead host.Leadership, log *slog.Logger) error {
	joined := map[string]bool{}
	for _, m := range lead.Hosts {
		joined[m.Name] = m.State != ""
	}
	for _, of := range l.file.Hosts {
		if !joined[of.Name] { // the stack begins when all hosts have joined
			<-ctx.Done()
			return nil
		}
	}
	file := l.file
	if last, _, known := supervise.LastFile(h.state); known {
		file = last
	}
	sup, err := supervise.Open(supervise.Config{
		Stack: file, BaseDir: l.dir, StateDir: h.state, Self: binary, Environ: os.Environ(), Version: "test", Log: log,
		Hosts: plan.HostsOf(file), Several: true, Share: lead.Share, Run: lead.Run,
		Machine: func(p plan.Place) machine.Machine { return lead.Machine(p.Name) },
	})
	if err != nil {
		return err
	}
	defer sup.Close()
	if err := sup.Prepare(); err != nil {
		return err
	}
	h.lead.Store(&lead)
	h.sup.Store(sup)
	defer h.sup.Store(nil)
	starting, stop := context.WithCancel(ctx)
	defer stop()
	var started sync.WaitGroup
	started.Go(func() {
		if err := sup.Start(starting); err != nil && starting.Err() == nil {
			log.Warn("the stack is not up", "why", err)
		}
	})
	<-ctx.Done()
	stop()
	started.Wait()
	return nil
}

// status returns the leader, and its status.
func (l *loopStack) status() (leader string, st supervise.Status) {
	for name, h := range l.hosts {
		if sup := h.sup.Load(); sup != nil {
			return name, sup.Status()
		}
	}
	return "", st
}

// awaitReady waits until the whole stack is ready.
func (l *loopStack) awaitReady() {
	l.t.Helper()
	l.eventually("the stack is ready", func() error {
		leader, st := l.status()
		if st.Ready {
			return nil
		}
		text := "led by " + leader
		for _, n := range st.Nodes {
			text += fmt.Sprintf("\n  %s %s %s", n.Name, n.State, n.Detail)
		}
		return fmt.Errorf("%s", text)
	})
}

func (l *loopStack) eventually(what string, try func() error) {
	l.t.Helper()
	var err error
	for end := time.Now().Add(120 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	l.t.Fatalf("not within 120 s: %s: %v", what, err)
}

// end takes the stack down.
func (l *loopStack) end() {
	for _, h := range l.hosts {
		if sup := h.sup.Load(); sup != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			if err := sup.Stop(context.Background(), ctx.Done()); err != nil {
				l.t.Errorf("take the stack down: %v", err)
			}
			cancel()
		}
	}
	for _, h := range l.hosts {
		h.Close()
		h.end()
		h.logs.Wait()
	}
	os.RemoveAll(l.dir)
}

// get requests a key from an entry.
func (l *loopStack) get(address, path string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// entries returns the address of the entry at each host.
func (l *loopStack) entries() (all []string) {
	_, port, _ := strings.Cut(strings.TrimPrefix(l.file.Entry.Listen, "0.0.0.0"), ":")
	for _, h := range l.file.Hosts {
		all = append(all, h.Address+":"+port)
	}
	return all
}

func TestAStackRunsOnSeveralHosts(t *testing.T) {
	beside(t, severalHosts)
	l := newLoopStack(t, "balancers: 3\n")
	l.join("two")
	l.join("three")
	l.awaitReady()
	for _, entry := range l.entries() {
		if _, err := l.get(entry, "/set/k/v"); err != nil {
			t.Errorf("set at %s: %v", entry, err)
		}
		if v, err := l.get(entry, "/get/k"); err != nil {
			t.Errorf("get at %s: %q %v", entry, v, err)
		}
	}
	// When another host leads, no node is restarted.
	leader, before := l.status()
	l.hosts[leader].Close()
	old := l.hosts[leader]
	delete(l.hosts, leader)
	l.eventually("another host leads", func() error {
		if next, _ := l.status(); next == "" {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
	l.open(leader, old.state)
	l.eventually("every node is seen as it was", func() error {
		_, after := l.status()
		for i, n := range after.Nodes {
			if n.PID != before.Nodes[i].PID || n.State != supervise.Up {
				return fmt.Errorf("%s is %s (pid %d, was %d)", n.Name, n.State, n.PID, before.Nodes[i].PID)
			}
		}
		return nil
	})
}

// nodesNot returns the nodes of some hosts that are not in this state.
func nodesNot(st supervise.Status, state supervise.State, is func(host string) bool) (names []string) {
	for _, n := range st.Nodes {
		if is(n.Host) && n.State != state {
			names = append(names, fmt.Sprintf("%s is %s %s", n.Name, n.State, n.Detail))
		}
	}
	return names
}

func TestAHostGoesDownForMaintenanceAndComesBack(t *testing.T) {
	beside(t, severalHosts)
	l := newLoopStack(t, "balancers: 3\n")
	l.join("two")
	l.join("three")
	l.awaitReady()
	l.eventually("the start has ended", func() error {
		if _, st := l.status(); st.Phase != supervise.PhaseRunning {
			return fmt.Errorf("it is %s", st.Phase)
		}
		return nil
	})
	leader, st := l.status()
	sup := l.hosts[leader].sup.Load()

	// The host that goes down has the master.
	var away, node string
	for _, n := range st.Nodes {
		if n.Kind == plan.Redis && n.Host != leader {
			away, node = n.Host, n.Name
		}
	}
	l.eventually(node+" is the master", func() error {
		_, err := sup.Switchover(t.Context(), node)
		if now, _ := sup.Status().Node(node); now.Role == "master" {
			return nil
		}
		return err
	})
	there := func(host string) bool { return host == away }
	elsewhere := func(host string) bool { return host != away }
	entry := ""
	for _, h := range l.file.Hosts {
		if h.Name == leader {
			entry = h.Address + strings.TrimPrefix(l.file.Entry.Listen, "0.0.0.0")
		}
	}
	load := startLoadOf(t, "http://"+entry, 100, false)

	if err := sup.Rest(t.Context(), "nowhere", false); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a host that is not there: %v", err)
	}
	if err := sup.Rest(t.Context(), away, false); err != nil {
		t.Fatal(err)
	}
	st = sup.Status()
	if left := nodesNot(st, supervise.Down, there); len(left) > 0 {
		t.Errorf("of host %s, %v", away, left)
	}
	if wrong := nodesNot(st, supervise.Up, elsewhere); len(wrong) > 0 || len(st.Resting) != 1 {
		t.Errorf("elsewhere, %v; resting %v", wrong, st.Resting)
	}
	before := pids(st)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-l.hosts[away].Rest()
		l.hosts[away].Close()
	}()
	if err := l.hosts[leader].lead.Load().EndHost(t.Context(), away); err != nil {
		t.Fatal(err)
	}
	<-ended

	// A supervisor that begins in the meantime knows that the host rests.
	old := l.hosts[leader]
	old.Close()
	l.open(leader, old.state)
	l.eventually("another supervisor sees the nodes, and those of the host that rests are down", func() error {
		next, st := l.status()
		if next == "" || st.Phase != supervise.PhaseRunning {
			return fmt.Errorf("%q leads, phase %s", next, st.Phase)
		}
		if wrong := append(nodesNot(st, supervise.Down, there), nodesNot(st, supervise.Up, elsewhere)...); len(wrong) > 0 {
			return fmt.Errorf("%v", wrong)
		}
		return nil
	})

	l.open(away, l.hosts[away].state)
	l.eventually("all nodes are up", func() error {
		_, st := l.status()
		if wrong := nodesNot(st, supervise.Up, func(string) bool { return true }); len(wrong) > 0 || len(st.Resting) > 0 || len(st.Nodes) == 0 {
			return fmt.Errorf("%v, resting %v", wrong, st.Resting)
		}
		return nil
	})
	o := load.finish(t)
	if o.requireTraffic(t, 100); len(o.failed) > 0 {
		t.Errorf("%d requests failed: %v", len(o.failed), o.errs)
	}
	_, st = l.status()
	for _, n := range st.Nodes {
		if n.Host != away && n.PID != before[n.Name] {
			t.Errorf("%s was started anew: pid %d, was %d", n.Name, n.PID, before[n.Name])
		}
	}
}
