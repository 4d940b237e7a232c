package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/needtest"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/supervise"
)

// requireNothingRuns checks that a refused 'up' left nothing running.
func (s *instance) requireNothingRuns() {
	s.t.Helper()
	st := s.status()
	if st.Supervisor != 0 {
		s.t.Errorf("a supervisor runs: %d", st.Supervisor)
	}
	for _, n := range st.Nodes {
		if n.PID != 0 {
			s.t.Errorf("%s runs", n.Name)
		}
	}
}

// requireWords checks that an error message contains all the words.
func requireWords(t *testing.T, msg string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(msg, w) {
			t.Errorf("the message lacks %q: %s", w, msg)
		}
	}
	if strings.Contains(msg, "goroutine") || strings.Contains(msg, "panic") {
		t.Errorf("that is a crash: %s", msg)
	}
}

// requireUpRefused runs 'up' in both ways. Each has to fail with the same words.
func (s *instance) requireUpRefused(code int, words ...string) {
	s.t.Helper()
	requireWords(s.t, s.fails(code, "up", "-d"), words...)
	requireWords(s.t, s.fails(code, "up"), words...)
}

func TestAnOccupiedPortIsNamedWithItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newInstance(t, fmt.Sprintf("entry:\n  listen: %s\n", l.Addr()))
	s.requireUpRefused(1, "balancer-1", l.Addr().String(), "taken", fmt.Sprintf("pid %d", os.Getpid()))
	s.requireNothingRuns()
}

func TestAnOccupiedPortOfARedisNodeIsNamedToo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	s := newInstance(t, minimal(t)+fmt.Sprintf("redis:\n  ports: [%d]\n", port))
	s.requireUpRefused(1, "redis-1", strconv.Itoa(port), "taken")
	s.requireNothingRuns()
}

func TestASecondUpOfTheSameStackIsRefused(t *testing.T) {
	beside(t, oneStack)
	s, before := runningInstance(t, minimal(t))
	s.requireUpRefused(1, "already", strconv.Itoa(before.Supervisor))
	after := s.status()
	for i := range before.Nodes {
		if before.Nodes[i].PID != after.Nodes[i].PID {
			t.Errorf("%s was disturbed", before.Nodes[i].Name)
		}
	}
}

func TestATooOldServerIsRefused(t *testing.T) {
	for program, says := range map[string]string{
		"haproxy":                   "HAProxy version 2.2.9-2+deb11u6 2023/12/20 - https://haproxy.org/",
		redistest.Program("server"): "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=6d95e1af3a2c082a",
	} {
		dir := t.TempDir()
		script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", says)
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		s := newInstance(t, minimal(t))
		s.env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
		s.requireUpRefused(1, program, "newer is needed")
		s.requireNothingRuns()
	}
}

func TestAMissingProgramIsNamed(t *testing.T) {
	s := newInstance(t, minimal(t)+`
apps:
  mine:
    command: [no-such-program, --port, $PORT]
`)
	s.requireUpRefused(2, "no-such-program")
	s.requireNothingRuns()
}

func TestAMissingRedisIsNamedWithTheWayToGetIt(t *testing.T) {
	// The servers are also looked up where distributions install them. So they have to be hidden,
	// in a mount namespace, which needs root.
	needRoot(t)
	s := newInstance(t, minimal(t))
	hide := "mount --bind /dev/null $(readlink -f $(command -v " + redistest.Program("server") + ")) && exec \"$@\""
	cmd := s.command("up", "-d")
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-c", hide, "sh"}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	cmd.Path = "/usr/bin/unshare"
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("up succeeded:\n%s", out)
	}
	requireWords(t, string(out), "redis-server is missing", "apt-get install")
	s.requireNothingRuns()
}

func needRoot(t *testing.T) {
	t.Helper()
	needtest.Root(t, "to mount and to change owners")
}

func TestAFullDiskIsRefused(t *testing.T) {
	needRoot(t)
	s := newInstance(t, minimal(t))
	if err := os.Mkdir(s.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.state, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatal(err)
	}
	state := s.state
	t.Cleanup(func() { syscall.Unmount(state, syscall.MNT_DETACH) })
	s.requireUpRefused(1, "full", s.state)
	s.requireNothingRuns()
}

func TestAnotherUsersStateDirectoryIsRefused(t *testing.T) {
	needRoot(t)
	s := newInstance(t, minimal(t))
	if err := os.Mkdir(s.state, 0o700); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if err := os.Chown(s.state, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s.requireUpRefused(1, "belongs to user 65534")
	if entries, _ := os.ReadDir(s.state); len(entries) > 1 { // not even logs/ may be made
		t.Errorf("something was written: %v", entries)
	}
	if err := os.Chown(s.state, os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
}

func TestAStateDirectoryWithATooLongPathIsRefused(t *testing.T) {
	s := newInstance(t, minimal(t))
	short := s.state
	s.state = filepath.Join(s.dir, strings.Repeat("long", 30))
	s.requireUpRefused(1, "shorter")
	s.state = short
}

func TestABrokenStackFileStartsNothing(t *testing.T) {
	s := newInstance(t, "balancers: 0\nentri: {}\nroutes: [{app: nobody}]\n")
	for _, args := range [][]string{{"up"}, {"up", "-d"}, {"config", "check"}, {"plan"}, {"status"}} {
		msg := s.fails(2, args...)
		requireWords(t, msg, s.file+":2:", s.file+":3:", s.file+":4:", "entry", "nobody")
	}
	if _, err := os.Stat(s.state); err == nil {
		t.Error("a state directory was made")
	}
	s.write("name: " + s.name + "\n")
}

func TestWrongArgumentsAreExitTwo(t *testing.T) {
	s := newInstance(t, minimal(t))
	for _, args := range [][]string{
		{"upp"}, {"up", "extra"}, {"up", "--nonsense"}, {"stop"}, {"logs", "a", "b"}, {"logs", "-n", "-1"},
		{"config", "chek"}, {"down", "--purge=perhaps"},
		{"switchover", "--to", ""}, {"rollout", "web", "--command", "  "}, {"rollout", "web", "--dir", ""}, {"rollout", "web", "--only", "0"},
	} {
		if msg := s.fails(2, args...); !strings.HasPrefix(msg, "holdfast: ") {
			t.Errorf("holdfast %v says %q", args, msg)
		}
	}
}

func TestANodeThatKeepsDyingIsFailedWithItsLastWords(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t)+`
apps:
  mine:
    command: [sh, -c, "echo no sea is calm; exit 7"]
    nodes: 1
`)
	_, stderr, code := s.run("up", "-d")
	if code != 1 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	requireWords(t, stderr, "mine-1 keeps dying", "exit status 7", "no sea is calm")
	if n := s.node("mine-1"); n.State != supervise.Failed {
		t.Errorf("%+v", n)
	}
}

func TestAMasterWhoseDataIsGoneRefusesToWipeItsReplicas(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	master := s.master()
	s.must("down")
	if err := os.RemoveAll(filepath.Join(s.state, "nodes", master, "data")); err != nil {
		t.Fatal(err)
	}
	s.run("up", "-d") // the Sentinels promote a node that has the data
	s.await("another master", 30*time.Second, func() bool { m := s.master(); return m != "" && m != master })
	s.awaitHealthy()
	expect(t, st.Entry+"/get?key=k", 200, "v")

	s.must("down")
	for _, n := range []string{"redis-1", "redis-2", "redis-3"} {
		if err := os.RemoveAll(filepath.Join(s.state, "nodes", n, "data")); err != nil {
			t.Fatal(err)
		}
	}
	_, stderr, code := s.run("up", "-d")
	if code != 1 {
		t.Fatalf("with all data gone 'up' exits %d", code)
	}
	requireWords(t, stderr, "data directory is empty")
}

func TestCtrlCTakesTheStackDownAndASecondOneAtOnce(t *testing.T) {
	beside(t, oneStack)
	for _, times := range []int{1, 2} {
		s := newInstance(t, minimal(t))
		cmd := s.command("up")
		out, err := os.Create(filepath.Join(s.dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.await("a stack that is said to be up", 30*time.Second, func() bool {
			text, _ := os.ReadFile(out.Name())
			return strings.Contains(string(text), "is up after")
		})
		st := s.awaitHealthy()
		for range times {
			cmd.Process.Signal(os.Interrupt)
			time.Sleep(50 * time.Millisecond)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("up ended with %v", err)
		}
		text, _ := os.ReadFile(out.Name())
		requireWords(t, string(text), "is up after", "Ctrl-C", "Taking the stack down")
		for _, n := range st.Nodes {
			if syscall.Kill(n.PID, 0) == nil && !zombie(n.PID) {
				t.Errorf("%s still runs", n.Name)
			}
		}
	}
}
