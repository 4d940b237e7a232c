package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/logs"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// serve is set in a process that is the program of an application.
const serve = "TEST_SERVES"

// TestMain runs the program of an application if it was started as one.
func TestMain(m *testing.M) {
	if os.Getenv(serve) == "" {
		os.Exit(m.Run())
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "served") })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), handler))
	os.Exit(1)
}

// shortDir returns a directory for a test with a short path, because the path of a unix socket
// may have only about a hundred bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// onTwoHosts returns the configuration of a stack on two hosts, each with a directory that can
// only be reached through its machine. text is the stack file, with %s for the entry's port and
// for the program of an application.
func onTwoHosts(t *testing.T, text string, open func(host, dir string) machine.Machine) (cfg Config, dirs map[string]string, entry string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entry = l.Addr().String()
	_, port, _ := net.SplitHostPort(entry)
	l.Close()
	file, _, err := stack.Parse("holdfast.yaml", fmt.Appendf(nil, text, port, os.Args[0], serve))
	if err != nil {
		t.Fatal(err)
	}

	dirs = map[string]string{"one": shortDir(t), "two": shortDir(t)}
	for _, dir := range dirs {
		if err := os.Mkdir(logs.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		// Each host has its own log writer.
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- logs.Write(ctx, dir) }()
		t.Cleanup(func() { killAll(t, dir); stop(); <-ended })
	}
	return Config{
		Stack: file, BaseDir: "/", StateDir: shortDir(t), Self: "/bin/true", Environ: os.Environ(), Log: slog.New(slog.DiscardHandler),
		Hosts:   []plan.Place{{Name: "one", Address: "127.0.0.1"}, {Name: "two", Address: "127.0.0.2"}},
		Machine: func(p plan.Place) machine.Machine { return open(p.Name, dirs[p.Name]) },
	}, dirs, entry
}

// killAll kills the nodes of a host that a test has left running.
func killAll(t *testing.T, dir string) {
	host := home{Machine: machine.NewLocal(dir)}
	defer host.Close()
	nodes, _ := host.recorded(context.Background())
	for _, node := range nodes {
		r, _ := host.readRecord(context.Background(), node)
		if proc, err := host.Adopt(context.Background(), r.Process); err == nil {
			t.Errorf("%s is left", node)
			_ = proc.SignalGroup(syscall.SIGKILL)
			<-proc.Done()
		}
	}
}

// If the supervisor did anything to a node other than through its machine, it would do so in
// the wrong place.
func TestAStackRunsOnHostsThatOnlyTheirMachinesLeadTo(t *testing.T) {
	t.Parallel()
	cfg, dirs, entry := onTwoHosts(t, `
entry: {listen: "0.0.0.0:%s", auth: none}
apps: {web: {command: [%q], nodes: 2, env: {%s: "1"}}}
redis: {replicas: 1}
`, func(_, dir string) machine.Machine { return machine.NewLocal(dir) })
	_, port, _ := net.SplitHostPort(entry)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	begin := func() *Supervisor {
		t.Helper()
		s, err := Open(cfg)
		if err == nil {
			err = s.Prepare()
		}
		if err == nil {
			err = s.Start(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	s := begin()
	pids := map[string]int{}
	for _, n := range s.Status().Nodes {
		if n.State != Up {
			t.Errorf("%s is %s: %s", n.Name, n.State, n.Detail)
		}
		pids[n.Name] = n.PID
		host := hostOf(s.Plan(), n.Name)
		if _, err := os.Stat(filepath.Join(dirs[host], "nodes", n.Name, processFile)); err != nil {
			t.Errorf("%s is not on its host: %v", n.Name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.StateDir, "nodes")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the supervisor's own directory has nodes: %v", err)
	}
	for _, address := range []string{entry, net.JoinHostPort("127.0.0.2", port)} {
		resp, err := http.Get("http://" + address)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("the entry at %s: %v, %v", address, resp, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}

	// The next supervisor adopts the nodes of both hosts.
	s.Close()
	s = begin()
	for _, n := range s.Status().Nodes {
		if n.PID != pids[n.Name] {
			t.Errorf("%s has been started anew", n.Name)
		}
	}
	result, err := s.Change(ctx, Request{Kind: "scale", Overrides: stack.Overrides{Nodes: map[string]int{"web": 3}}}, nil)
	if err != nil || !result.Done {
		t.Errorf("scale: %+v, %v", result, err)
	}
	host := hostOf(s.Plan(), "web-3")
	if _, err := os.Stat(filepath.Join(dirs[host], "nodes", "web-3", processFile)); err != nil {
		t.Errorf("a new node is not on its host: %v", err)
	}
	master := s.lastSeenMaster()
	if err := s.Do(ctx, master, ActRestart); err != nil {
		t.Errorf("restart the master: %v", err)
	}
	if now := s.lastSeenMaster(); now == master || now == "" {
		t.Errorf("after a restart of %s the master is %q", master, now)
	}
	if err := s.Stop(ctx, nil); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, n := range s.Status().Nodes {
		if n.State != Down || n.PID != 0 {
			t.Errorf("%s is %s", n.Name, n.State)
		}
	}
	s.Close()
}
