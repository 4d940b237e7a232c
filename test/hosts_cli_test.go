package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/host"
	"holdfast/internal/supervise"
)

// netnsHost is a machine of a test: a network namespace with one link, and the holdfast program
// with a state directory of its own.
type netnsHost struct {
	t                    *testing.T
	name, netns, address string
	bridge               string // the network namespace of the bridge
	dir, state           string
	env                  []string
	program              string // holdfast's path; empty: the tested one
}

// newNetnsHosts makes hosts that are plugged into one bridge. The default names are one, two and
// three.
func newNetnsHosts(t *testing.T, names ...string) (all map[string]*netnsHost) {
	t.Helper()
	if len(names) == 0 {
		names = []string{"one", "two", "three"}
	}
	needNetworks(t)
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	tag := fmt.Sprintf("hf-%d-%d", os.Getpid(), instances.Add(1))
	add := func(netns string) {
		shell(t, "ip", "netns", "add", netns)
		t.Cleanup(func() {
			endAll(t, netns)
			shell(t, "ip", "netns", "delete", netns)
		})
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bridge := tag + "-0"
	add(bridge)
	shell(t, "ip", "-netns", bridge, "link", "add", "br0", "type", "bridge")
	shell(t, "ip", "-netns", bridge, "link", "set", "br0", "up")
	all = map[string]*netnsHost{}
	network := fmt.Sprintf("198.%d.%d", 18+rand.IntN(2), rand.IntN(256))
	for i, name := range names {
		number := fmt.Sprint(i + 1)
		h := &netnsHost{t: t, name: name, netns: tag + "-" + number, bridge: bridge, address: network + "." + number, dir: filepath.Join(dir, name)}
		h.state = filepath.Join(h.dir, "state")
		all[name] = h
		if err := os.Mkdir(h.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		add(h.netns)
		shell(t, "ip", "-netns", bridge, "link", "add", "e"+number, "type", "veth", "peer", "name", "eth0", "netns", h.netns)
		shell(t, "ip", "-netns", bridge, "link", "set", "e"+number, "master", "br0", "up")
		shell(t, "ip", "-netns", h.netns, "link", "set", "lo", "up")
		shell(t, "ip", "-netns", h.netns, "address", "add", h.address+"/24", "dev", "eth0")
		shell(t, "ip", "-netns", h.netns, "link", "set", "eth0", "up")
	}
	return all
}

// run runs the program on a host.
func (h *netnsHost) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.netns, cmp.Or(h.program, binary)}, append(args, "--state", h.state)...)...)
	cmd.Dir, cmd.Env = h.dir, append(os.Environ(), h.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (h *netnsHost) must(args ...string) (stdout string) {
	h.t.Helper()
	stdout, stderr, code := h.run(args...)
	if code != 0 {
		h.t.Fatalf("host %s: holdfast %s: exit %d: %s%s", h.name, strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

func (h *netnsHost) fails(code int, args ...string) (stderr string) {
	h.t.Helper()
	stdout, stderr, got := h.run(args...)
	if got != code {
		h.t.Errorf("host %s: holdfast %s: exit %d, want %d: %s%s", h.name, strings.Join(args, " "), got, code, stdout, stderr)
	}
	return stderr
}

// token returns a token for a host, made on this one.
func (h *netnsHost) token(name string) string {
	h.t.Helper()
	line := strings.TrimSpace(h.must("host", "add", name))
	token, is := strings.CutPrefix(line, "holdfast join ")
	if !is {
		h.t.Fatalf("host add prints %q", line)
	}
	return token
}

func (h *netnsHost) list() (v host.View) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must("host", "list", "--json")), &v); err != nil {
		h.t.Fatal(err)
	}
	return v
}

// status returns the stack's status at a host, or false if there is none now.
func (h *netnsHost) status() (st supervise.Status, ok bool) {
	h.t.Helper()
	stdout, _, _ := h.run("status", "--json")
	return st, json.Unmarshal([]byte(stdout), &st) == nil
}

func (h *netnsHost) eventually(what string, is func() bool) {
	h.t.Helper()
	if !clock.Within(60*time.Second, 200*time.Millisecond, is) {
		stdout, stderr, _ := h.run("status")
		log, _, _ := h.run("logs", "supervisor", "-n", "25")
		h.t.Logf("%s", log)
		h.t.Fatalf("not within 60 s: %s; at host %s: %s%s", what, h.name, stdout, stderr)
	}
}

// awaitReady waits until a host reports that the stack is well.
func (h *netnsHost) awaitReady() (st supervise.Status) {
	h.t.Helper()
	h.eventually("the stack is well at host "+h.name, func() bool {
		var ok bool
		st, ok = h.status()
		for _, n := range st.Nodes {
			ok = ok && n.State == supervise.Up
		}
		return ok && st.Ready
	})
	return st
}

func pids(st supervise.Status) map[string]int {
	all := map[string]int{}
	for _, n := range st.Nodes {
		all[n.Name] = n.PID
	}
	return all
}

func TestThreeMachinesFromNothing(t *testing.T) {
	beside(t, severalHosts)
	hosts := newNetnsHosts(t)
	one, two, three := hosts["one"], hosts["two"], hosts["three"]
	file := fmt.Sprintf("name: shop\nentry: {listen: \"0.0.0.0:8080\", auth: none}\nhosts:\n  one: {address: %s}\n  two: {address: %s}\n  three: {address: %s, only: [sentinel]}\nredis: {replicas: 3}\n",
		one.address, two.address, three.address)
	for _, h := range []*netnsHost{one, two} {
		if err := os.WriteFile(filepath.Join(h.dir, "holdfast.yaml"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// The first host is found by its address, and tells what to do next.
	requireWords(t, one.must("up", "-d"), "Host one of the stack shop is up", "Hosts two and three have not joined", "host add two")
	requireWords(t, one.fails(1, "up"), "up already")
	requireWords(t, two.fails(1, "up", "-d"), "up already, on host one", "host add two")
	requireWords(t, one.fails(2, "host", "add", "four"), "four", "one, two and three")
	requireWords(t, one.fails(1, "down"), "has not started")

	token := one.token("two")
	requireWords(t, two.fails(2, "join", token[:len(token)-3]), "incomplete")
	two.must("join", token, "-d")
	requireWords(t, three.fails(1, "join", token, "-d"), "cannot listen there")
	requireWords(t, two.fails(1, "join", token), "already")
	if err := os.Remove(filepath.Join(two.dir, "holdfast.yaml")); err != nil {
		t.Fatal(err) // only the first host needs the file
	}
	three.must("join", two.token("three"), "-d")

	for _, h := range hosts {
		h.awaitReady()
		v := h.list()
		if v.Here != h.name || v.Leader == "" || len(v.Hosts) != 3 {
			t.Errorf("host %s sees %+v", h.name, v)
		}
		for _, s := range v.Hosts {
			if !s.Votes || !s.Reachable || s.Leads != (s.Name == v.Leader) {
				t.Errorf("host %s sees %+v", h.name, s)
			}
		}
	}
	requireWords(t, one.must("logs", "sentinel-3", "-n", "0"), "+monitor master shop")
	requireWords(t, three.must("logs", "supervisor", "-n", "0"), "supervisor@one", "supervisor@three", "this host leads")

	// A host goes down for maintenance on request of another one, and comes back.
	requireWords(t, one.fails(2, "down", "four"), "four", "one, three and two")
	requireWords(t, three.must("down", "two"), "host two is down for maintenance")
	requireWords(t, one.must("status"), "host two is down for maintenance")
	two.must("up", "-d")
	one.eventually("host two is back", func() bool {
		st, ok := one.status()
		return ok && len(st.Resting) == 0
	})
	before := pids(one.awaitReady())

	// The leader's process is killed: another host leads, and the nodes go on.
	leader := hosts[one.list().Leader]
	if err := syscall.Kill(leader.list().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if h != leader {
			h.eventually("another host leads", func() bool {
				st, ok := h.status()
				return ok && st.Host != "" && st.Host != leader.name
			})
		}
	}
	leader.fails(1, "host", "list")
	leader.must("up", "-d")
	for node, pid := range pids(leader.awaitReady()) {
		if pid != before[node] {
			t.Errorf("%s was started anew: pid %d, was %d", node, pid, before[node])
		}
	}

	// A host is removed, learns of it, and joins again.
	requireWords(t, one.fails(2, "host", "remove", "three"), "--yes")
	requireWords(t, one.must("host", "remove", "three", "--yes"), "host three is removed")
	three.eventually("host three has left", func() bool {
		_, err := os.Stat(filepath.Join(three.state, host.SelfFile))
		return errors.Is(err, os.ErrNotExist) && !host.Claimed(three.state)
	})
	if v := two.list(); len(v.Hosts) != 2 {
		t.Errorf("host two sees %+v", v)
	}
	three.must("join", two.token("three"), "-d")
	three.eventually("host three has its vote again", func() bool {
		votes := 0
		for _, s := range three.list().Hosts {
			if s.Votes {
				votes++
			}
		}
		return votes == 3
	})
	three.awaitReady() // its nodes were stopped when it was removed

	// Any host can take the stack down, and the processes of all hosts end.
	requireWords(t, three.must("down"), "down on all hosts")
	for _, h := range hosts {
		h.eventually("host "+h.name+" has ended", func() bool { return !host.Claimed(h.state) })
		if running, err := supervise.Running(h.state); err != nil || running {
			t.Errorf("nodes of host %s run: %v", h.name, err)
		}
	}
}
