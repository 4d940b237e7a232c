// Package test contains the end-to-end tests: the built holdfast program, the real HAProxy and
// Redis, and clients that know nothing of either.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// binary is the path of the holdfast program, built with the race detector.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if binary = os.Getenv(binaryVariable); binary != "" {
			holdPreferredPorts()
			return m.Run() // inside a network namespace, or on another system, where it was built before
		}
		dir, err := os.MkdirTemp("", "hf")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "holdfast")
		// Without the profile the build shares what the tests are built of.
		build := exec.Command("go", "build", "-race", "-pgo=off", "-o", binary, "holdfast/cmd/holdfast")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build holdfast: %v\n%s", err, out)
			return 1
		}
		// A program with the race detector waits 1 s before it exits
		// (https://go.dev/doc/articles/race_detector), and each test runs several programs.
		os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
		holdPreferredPorts()
		return m.Run()
	}())
}

// preferredPorts are the ports that web nodes take when they are free. The tests hold them except
// where an example needs one: two stacks that start at the same time would both choose them.
var preferredPorts = map[int]net.Listener{5001: nil, 5002: nil, 5003: nil, 5004: nil}

func holdPreferredPorts() {
	for port, held := range preferredPorts {
		if held == nil {
			preferredPorts[port], _ = listen(port) // it does not matter who holds it
		}
	}
}

func releasePreferredPorts() {
	for port, held := range preferredPorts {
		if held != nil {
			held.Close()
		}
		preferredPorts[port] = nil
	}
}

// instance is one stack under test.
type instance struct {
	t     *testing.T
	name  string
	file  string // path of the stack file; empty: none
	state string
	dir   string // the working directory of commands
	env   []string

	clientOf string // the state directory that client belongs to
	client   *control.Client
}

var instances atomic.Int32

// newInstance returns a stack with a name, a state directory and an entry port of its own. The text
// of its stack file needs no name and no entry. The stack is taken down at the end of the test.
func newInstance(t *testing.T, text string) *instance {
	t.Helper()
	// It does not use t.TempDir, because the path of a unix socket may only have about a hundred
	// bytes.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	s := &instance{
		t: t, dir: dir, state: filepath.Join(dir, "state"), file: filepath.Join(dir, "holdfast.yaml"),
		name: fmt.Sprintf("t%d-%d", os.Getpid(), instances.Add(1)),
	}
	s.write("name: " + s.name + "\n" + text)
	t.Cleanup(func() {
		if t.Failed() {
			s.dumpLogs()
		}
		s.purge()
		os.RemoveAll(dir)
	})
	return s
}

// runningInstance is newInstance with the stack up and healthy.
func runningInstance(t *testing.T, text string) (*instance, supervise.Status) {
	t.Helper()
	s := newInstance(t, text)
	s.must("up", "-d")
	return s, s.awaitHealthy()
}

// purge takes the stack down and removes its state. It first waits until a process has ended that
// undoes a killed drill.
func (s *instance) purge() {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, stderr, code := s.run("down", "--purge")
		if code == 0 {
			return
		}
		if !strings.Contains(stderr, "a drill is under way") || time.Now().After(deadline) {
			s.t.Errorf("down --purge: exit %d: %s", code, stderr)
			return
		}
	}
}

func (s *instance) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *instance) dumpLogs() {
	stdout, _, _ := s.run("logs", "-n", "3000")
	s.t.Logf("logs of %s:\n%s", s.name, stdout)
	stdout, _, _ = s.run("status")
	s.t.Logf("status of %s:\n%s", s.name, stdout)
}

// command returns a holdfast command for this stack, not started.
func (s *instance) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append(args, "--state", s.state)...)
	if s.file != "" && len(args) > 0 && args[0] != "version" {
		cmd.Args = append(cmd.Args, "--file", s.file)
	}
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	return cmd
}

// run runs a command to its end.
func (s *instance) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := s.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("holdfast %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (s *instance) must(args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.run(args...)
	if code != 0 {
		s.t.Fatalf("holdfast %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// fails runs a command that has to fail with this exit code, and returns what it printed.
func (s *instance) fails(want int, args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.run(args...)
	if code != want {
		s.t.Fatalf("holdfast %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, stdout, stderr)
	}
	return stderr
}

// status returns the status, in any state. It asks the supervisor, which is quicker than running
// the command; without a supervisor it runs the command.
func (s *instance) status() supervise.Status {
	s.t.Helper()
	if s.clientOf != s.state {
		s.clientOf, s.client = s.state, control.NewClient(s.state)
	}
	if st, err := s.client.Status(s.t.Context()); err == nil {
		return st
	}
	return s.statusCommand()
}

// statusCommand runs the status command.
func (s *instance) statusCommand() supervise.Status {
	s.t.Helper()
	stdout, stderr, _ := s.run("status", "--json")
	var st supervise.Status
	if err := json.Unmarshal([]byte(stdout), &st); err != nil {
		s.t.Fatalf("status --json: %v: %s%s", err, stdout, stderr)
	}
	return st
}

func (s *instance) node(name string) supervise.NodeStatus {
	s.t.Helper()
	n, ok := s.status().Node(name)
	if !ok {
		s.t.Fatalf("no node %s", name)
	}
	return n
}

// master returns the redis node that is the master, or "" if there is not exactly one.
func (s *instance) master() string {
	s.t.Helper()
	var masters []string
	for _, n := range s.status().Nodes {
		if n.Role == "master" && n.State == supervise.Up {
			masters = append(masters, n.Name)
		}
	}
	if len(masters) != 1 {
		return ""
	}
	return masters[0]
}

// await polls a condition.
func (s *instance) await(what string, limit time.Duration, cond func() bool) {
	s.t.Helper()
	limit *= 3 // the machine may be busy
	if !clock.Within(limit, 50*time.Millisecond, cond) {
		s.t.Fatalf("not within %v: %s", limit, what)
	}
}

// awaitHealthy waits until every node is up.
func (s *instance) awaitHealthy() supervise.Status {
	s.t.Helper()
	var st supervise.Status
	s.await("every node up", 30*time.Second, func() bool {
		st = s.status()
		for _, n := range st.Nodes {
			if n.State != supervise.Up {
				return false
			}
		}
		return st.Ready
	})
	return st
}

// killSupervisor kills only the supervisor, and waits for its end.
func (s *instance) killSupervisor() {
	s.t.Helper()
	pid := s.status().Supervisor
	if pid == 0 {
		s.t.Fatal("no supervisor runs")
	}
	kill(s.t, pid)
	s.await("the supervisor's end", 10*time.Second, func() bool { return s.status().Supervisor == 0 })
}

// kill sends SIGKILL without Holdfast's knowledge.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// get requests a URL, and returns the status and the body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: 10 * time.Second}
	return answerOf(t)(c.Get(url))
}

// answerOf returns a function that reads an answer, and ends the test if there is none.
func answerOf(t *testing.T) func(*http.Response, error) (status int, body string) {
	return func(resp *http.Response, err error) (int, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
}

// expect requests a URL, and checks the status and the body.
func expect(t *testing.T, url string, status int, body string) {
	t.Helper()
	if code, got := get(t, url); code != status || got != body {
		t.Errorf("GET %s: %d %q, want %d %q", url, code, got, status, body)
	}
}

// freePort returns a port that nobody listens on. It is below the ports of other packages' servers
// (15000 and up), those that stacks choose (20000 and up), and those of outgoing connections.
var nextPort atomic.Int32

func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		p := 12000 + (os.Getpid()+int(nextPort.Add(1)))%3000
		if l, err := listen(p); err == nil {
			l.Close()
			return p
		}
	}
	t.Fatal("no free port")
	return 0
}

// header requests a URL on a new connection, and returns a header of the answer.
func header(t *testing.T, url, name string) string {
	t.Helper()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get(name)
}
