package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/supervise"
)

// install writes a program to a path as another version. Bytes behind the end of an ELF file change
// nothing else.
func (s *instance) install(source, path, version string) {
	s.t.Helper()
	program, err := os.ReadFile(source)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", append(program, version...), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func TestANewVersionOfHoldfastTakesOver(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t)+"rollout: {settle: 300ms}\n")
	path := filepath.Join(s.dir, "holdfast")
	call := func(args ...string) {
		t.Helper()
		cmd := exec.Command(path, append(args, "--state", s.state, "--file", s.file)...)
		cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("holdfast %v: %v\n%s", args, err, out)
		}
	}
	servers := filepath.Join(s.dir, "servers")
	if err := os.Mkdir(servers, 0o755); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"PATH=" + servers + ":" + os.Getenv("PATH") + ":/usr/sbin"}
	installServers := func(version string) {
		t.Helper()
		for _, name := range []string{"haproxy", redistest.Program("server")} {
			source, err := exec.LookPath(name)
			if err != nil {
				source = filepath.Join("/usr/sbin", name)
			}
			s.install(source, filepath.Join(servers, name), version)
		}
	}
	s.install(binary, path, "one")
	installServers("one")
	call("up", "-d")
	before := s.awaitHealthy()
	l := startLoad(t, before.Entry, 100)

	s.install(binary, path, "two")
	s.await("the status to show what was replaced", 30*time.Second, func() bool {
		return s.status().Outdated != "" && s.node("web-1").Outdated != ""
	})
	if s.node("redis-1").Outdated != "" {
		t.Error("redis-1 is said to run a replaced program")
	}
	call("upgrade")
	after := s.awaitHealthy()
	if after.Supervisor != before.Supervisor || after.Program == before.Program || after.Outdated != "" {
		t.Errorf("the supervisor is %d %s (%s), and was %d %s", after.Supervisor, after.Program, after.Outdated, before.Supervisor, before.Program)
	}
	for _, was := range before.Nodes {
		is, _ := after.Node(was.Name)
		if ours := was.App != ""; (is.PID != was.PID) != ours {
			t.Errorf("%s has the pid %d, and had %d", was.Name, is.PID, was.PID)
		}
	}
	requireWords(t, s.must("upgrade", "--help"), "take over")

	// It looks after the nodes that it has adopted, and reaps them.
	sentinel := s.node("sentinel-1").PID
	kill(t, sentinel)
	s.await("another sentinel-1", 30*time.Second, func() bool {
		n := s.node("sentinel-1")
		return n.State == supervise.Up && n.PID != sentinel
	})
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(sentinel))); err == nil {
		t.Errorf("the old sentinel-1 (%d) is a zombie", sentinel)
	}

	// HAProxy and Redis are replaced as a package manager does it.
	installServers("two")
	s.await("the status to show that all servers were replaced", 30*time.Second, func() bool {
		for _, n := range s.status().Nodes {
			if (n.Outdated != "") != (n.App == "") {
				return false
			}
		}
		return true
	})
	requireWords(t, s.must("status"), "redis-1", "runs another version", "apply")
	before = s.status()
	master := s.master()
	requireWords(t, s.must("apply", "--plan"), "the file of its program was replaced")
	s.must("apply", "--yes")
	after = s.awaitHealthy()
	for _, was := range before.Nodes {
		is, _ := after.Node(was.Name)
		if server := was.App == ""; (is.PID != was.PID) != server || is.Outdated != "" {
			t.Errorf("%s has the pid %d, and had %d; %s", was.Name, is.PID, was.PID, is.Outdated)
		}
	}
	if s.master() == master {
		t.Errorf("the master %s was started anew and has not handed over", master)
	}
	o := l.finish(t)
	o.requireNothingFailed(t)
	o.requireTraffic(t, 500)
}
