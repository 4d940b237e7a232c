package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/doctor"
	"holdfast/internal/examine"
	"holdfast/internal/haproxy"
	"holdfast/internal/process"
	"holdfast/internal/stack"
)

// diagnose returns what doctor finds now. It runs in this process.
func (s *instance) diagnose() doctor.Report {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	declared, _, err := stack.Parse(s.file, text)
	if err != nil {
		s.t.Fatal(err)
	}
	return doctor.Judge(examine.Stack(s.t.Context(), examine.Config{
		Stack: declared, BaseDir: s.dir, StateDir: s.state, SearchPath: os.Getenv("PATH"),
	}))
}

// awaitFinding waits until doctor finds something of a level, by a check, about a node, with all of
// these words.
func (s *instance) awaitFinding(level doctor.Level, check, node string, words ...string) {
	s.t.Helper()
	var last doctor.Report
	is := func(f doctor.Finding) bool {
		return f.Level == level && f.Check == check && f.Node == node && f.Means != "" && f.Do != "" &&
			!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(f.What+f.Do, w) })
	}
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if last = s.diagnose(); slices.ContainsFunc(last.Findings, is) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the doctor finds no %s of %s about %q with %q, but %+v", level, check, node, words, last)
		}
	}
}

// awaitNoFindings waits until doctor finds nothing but notes.
func (s *instance) awaitNoFindings() {
	s.t.Helper()
	var last doctor.Report
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		// The stack is not to blame for the disk and memory of this machine.
		last = s.diagnose()
		last.Findings = slices.DeleteFunc(last.Findings, func(f doctor.Finding) bool { return f.Check == "disk" || f.Check == "memory" })
		if !last.NeedsAttention() {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the doctor still finds %+v", last.Findings)
		}
	}
}

func (s *instance) replica() string {
	s.t.Helper()
	for _, n := range s.status().Nodes {
		if n.Role == "replica" {
			return n.Name
		}
	}
	s.t.Fatal("no replica")
	return ""
}

func TestTheDoctorFindsWhatIsWrongWithARunningStack(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t)
	s, st := runningInstance(t, text)
	s.awaitNoFindings()
	master, replica := s.master(), s.replica()

	// Somebody has changed settings of Redis.
	s.redisCLI(master, "config", "set", "min-replicas-to-write", "99")
	s.awaitFinding(doctor.Error, "settings", master, "min-replicas-to-write 99", "the plan 1", "restart "+master)
	s.redisCLI(master, "config", "set", "min-replicas-to-write", "1")
	s.redisCLI(replica, "config", "set", "appendonly", "no", "maxmemory", "50mb", "save", "")
	s.awaitFinding(doctor.Error, "settings", replica, "appendonly no")
	s.awaitFinding(doctor.Warning, "settings", replica, "maxmemory 52428800")
	s.redisCLI(replica, "config", "set", "appendonly", "yes", "maxmemory", "0", "save", "900 1 300 10 60 10000")
	s.awaitNoFindings()
	s.redisCLI("sentinel-1", "sentinel", "set", s.name, "quorum", "3", "down-after-milliseconds", "9000")
	s.awaitFinding(doctor.Warning, "sentinels", "sentinel-1", "needs 3", "majority is 2")
	s.awaitFinding(doctor.Warning, "sentinels", "sentinel-1", "down-after-milliseconds 9s", "500ms")
	s.redisCLI("sentinel-1", "sentinel", "set", s.name, "quorum", "2", "down-after-milliseconds", "500")

	// Somebody has edited a file of a node, and another file is gone. A password in such a line is
	// not shown.
	base := filepath.Join(s.state, "nodes", replica, "base.conf")
	content, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) {
		if err := os.WriteFile(base, []byte(strings.Replace(string(content), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit("appendfsync everysec", "appendfsync no")
	s.awaitFinding(doctor.Warning, "files", replica, "base.conf", `"appendfsync no"`, `"appendfsync everysec"`)
	edit("masterauth ", "masterauth open-sesame")
	s.awaitFinding(doctor.Warning, "files", replica, "masterauth …")
	if words := fmt.Sprint(s.diagnose()); strings.Contains(words, "open-sesame") {
		t.Errorf("a password is shown: %s", words)
	}
	if err := os.Remove(base); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Warning, "files", replica, "is missing")
	edit("", "")

	// The stack file differs from what runs.
	s.write("name: " + s.name + "\n" + text + "retries: 7\n")
	s.awaitFinding(doctor.Warning, "stack-file", "", "differs from what runs", "apply --plan")
	s.write("name: " + s.name + "\n" + text)

	// A server was taken out of a balancer.
	b := haproxy.NewClient(filepath.Join(s.state, "nodes", "balancer-1", "haproxy.sock"))
	if err := b.SetState(t.Context(), "web", "web-2", haproxy.Maint); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Warning, "rotation", "web-2", "balancer-1", "MAINT")
	if err := b.SetState(t.Context(), "web", "web-2", haproxy.Ready); err != nil {
		t.Fatal(err)
	}

	// A killed drill has left something.
	journal := filepath.Join(s.state, "drill-undo.json")
	if err := os.WriteFile(journal, []byte(`[{"id":1,"why":"a rule that cuts redis-2 off","remove":"/nonexistent/holdfast"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Error, "drill", "", "a rule that cuts redis-2 off", "drill undo")
	s.must("drill", "undo")
	s.awaitNoFindings()

	// A backup has failed.
	backup := filepath.Join(s.state, "backup.json")
	if err := os.WriteFile(backup, []byte(`{"failure":{"at":"2026-03-05T05:00:00Z","error":"no room"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Error, "backup", "", "no room")
	if err := os.Remove(backup); err != nil {
		t.Fatal(err)
	}

	// Nodes hang, and others were stopped. The command reports it, too.
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	pid := s.node(replica).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Warning, "paused", replica, strconv.Itoa(pid), "SIGSTOP", "resume "+replica)
	s.awaitFinding(doctor.Warning, "replication", master, "1 of 2 replicas")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.must("stop", "sentinel-3")
	s.awaitFinding(doctor.Warning, "nodes", "sentinel-3", "its operator stopped it", "start sentinel-3")
	stdout, _, code := s.run("doctor", "--json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 1 || !report.NeedsAttention() || len(report.Checks) < 20 {
		t.Errorf("doctor --json: exit %d, %v: %s", code, err, stdout)
	}
	stdout, _, _ = s.run("doctor")
	requireWords(t, stdout, "warning", "it means:", "to do:", "start sentinel-3 --file "+s.file)
	s.must("start", "sentinel-3")
	s.awaitNoFindings()

	// The master follows another node although every Sentinel names it, and the supervisor hangs or
	// is gone.
	supervisor := s.status().Supervisor
	if err := syscall.Kill(supervisor, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Error, "supervisor", "", fmt.Sprintf("pid %d", supervisor), "stopped by a signal")
	s.awaitFinding(doctor.Error, "supervisor", "", "does not answer")
	if err := syscall.Kill(supervisor, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.killSupervisor()
	s.awaitFinding(doctor.Error, "supervisor", "", "no supervisor runs", "up -d")
	for _, name := range []string{"redis-1", "redis-2", "redis-3"} {
		if name != master {
			s.redisCLI(name, "config", "set", "replica-priority", "0") // so that Sentinels promote none of them
		}
	}
	address := s.node(master).Address
	_, port, _ := net.SplitHostPort(s.node(replica).Address)
	s.redisCLI(master, "replicaof", "127.0.0.1", port)
	s.awaitFinding(doctor.Error, "roles", master, "all Sentinels", "calls itself a replica", "the supervisor promotes it")
	if out, err := s.redisAt(address, "replicaof", "no", "one"); err != nil {
		t.Fatal(out, err)
	}
	s.must("up", "-d") // this restores the priorities
	s.awaitHealthy()
	s.awaitNoFindings()
}

func TestTheDoctorWorksOnAStackThatIsDown(t *testing.T) {
	beside(t, oneStack)
	program := filepath.Join(t.TempDir(), "serve")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec python3 -m http.server --bind $HOST $PORT\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newInstance(t, minimal(t)+"apps:\n  mine:\n    command: ["+program+"]\n    nodes: 1\n")
	s.awaitFinding(doctor.Note, "supervisor", "", "has never been up")
	s.must("up", "-d")
	st := s.awaitHealthy()
	s.must("down")
	s.awaitFinding(doctor.Note, "supervisor", "", "was taken down")

	// Something would keep the stack from starting.
	redis, _ := st.Node("redis-2")
	l, err := net.Listen("tcp", redis.Address)
	if err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Error, "ports", "redis-2", redis.Address, fmt.Sprintf("pid %d", os.Getpid()))
	l.Close()
	if err := os.Chmod(program, 0o644); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Error, "stack-file", "", program)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}

	// Everything dies at once, including the supervisor.
	s.must("up", "-d")
	st = s.awaitHealthy()
	kill(t, st.Supervisor)
	for _, n := range st.Nodes {
		if id, err := process.Identify(n.PID); err == nil {
			if err := process.Signal(id, syscall.SIGKILL, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.awaitFinding(doctor.Error, "supervisor", "", "was not taken down", "up -d")

	kept := filepath.Join(s.state, "stack.json")
	good, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.awaitFinding(doctor.Error, "supervisor", "", "stack.json is damaged")
	if err := os.WriteFile(kept, good, 0o600); err != nil {
		t.Fatal(err)
	}
}
