package test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/supervise"
)

// Operations on a stack of several hosts as a whole, from any of them.

func TestAStackOfSeveralHostsIsDrilledRestoredAndPurged(t *testing.T) {
	beside(t, severalHosts)
	c := newThreeHosts(t)
	c.run("drill", c.drills)
	c.run("cut", c.cuts)
	c.run("restore", c.restores)
	c.run("purge", c.purges)
}

// drills runs drills that strike nodes of any host, from one of them.
func (c *threeHosts) drills(t *testing.T) {
	leader, a, _ := c.roles()
	requireWords(t, a.fails(2, "drill", "kill-web", "kill-supervisor"), "kill-supervisor cannot be brought about", "nobody could start again")
	requireWords(t, a.fails(2, "drill", "slow-link"), "the stack runs on several")

	before := pids(a.awaitReady())
	stdout, stderr, code := a.run("drill", "kill-web", "kill-master", "pause-replica", "restart-sentinel", "kill-balancer", "--rate", "60", "--clients", "8", "--json")
	if code != 0 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	var report struct {
		Faults []struct {
			Name, Evidence, Trouble string
			Targets                 []string
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || len(report.Faults) != 5 {
		t.Fatalf("%v: %s", err, stdout)
	}
	now := leader.awaitReady()
	elsewhere := false
	for _, f := range report.Faults {
		t.Logf("%s at %v: %s", f.Name, f.Targets, f.Evidence)
		if f.Trouble != "" || f.Evidence == "" {
			t.Errorf("%s: %s", f.Name, f.Trouble)
		}
		for _, node := range f.Targets {
			n, _ := now.Node(node)
			elsewhere = elsewhere || n.Host != a.name
			if n.PID == before[node] && strings.HasPrefix(f.Name, "kill") {
				t.Errorf("%s has the process that it had", node)
			}
		}
	}
	if !elsewhere {
		t.Error("no node of another host was struck")
	}
	if body, err := ask(&fasthttp.Client{ReadTimeout: 15 * time.Second}, c.entries()[0]+"/v1/keys?prefix=holdfast-drill:"); err != nil || strings.Contains(body, "holdfast-drill") {
		t.Errorf("it has left keys: %s, %v", body, err)
	}
}

// cuts cuts hosts off, by a drill on another host.
func (c *threeHosts) cuts(t *testing.T) {
	tables := func(h *netnsHost) string {
		return strings.TrimSpace(shell(t, "ip", "netns", "exec", h.netns, "nft", "list", "tables"))
	}
	// The clients have to be on a host without the master, or with it.
	at := func(hasMaster bool) *netnsHost {
		for _, name := range []string{"one", "two", "three"} {
			h := c.hosts[name]
			if h.awaitReady(); (h.node(h.master()).Host == name) == hasMaster {
				return h
			}
		}
		t.Fatal("no host has the master")
		return nil
	}
	little := []string{"--rate", "60", "--clients", "8"}
	for _, faults := range [][]string{{"cut-host", "cut-master-port"}, {"cut-master"}} {
		stdout, stderr, code := at(false).run(slices.Concat([]string{"drill", "--json"}, faults, little)...)
		if code != 0 || strings.Count(stdout, "packets dropped") < len(faults) {
			t.Fatalf("%s: exit %d: %s%s", faults, code, stdout, stderr)
		}
		for _, h := range c.hosts {
			if left := tables(h); left != "" {
				t.Errorf("%s: host %s has %s", faults, h.name, left)
			}
		}
	}
	stdout, stderr, code := at(true).run(append([]string{"drill", "cut-master"}, little...)...)
	if code != 1 {
		t.Errorf("the drill's own host is cut off: exit %d", code)
	}
	requireWords(t, stdout+stderr, "run the drill at another host")

	// The drill and its host die in the middle: the cut ends by itself.
	a := at(false)
	drill := exec.Command("ip", append([]string{"netns", "exec", a.netns, a.program, "drill", "cut-host", "--state", a.state}, little...)...)
	drill.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := drill.Start(); err != nil {
		t.Fatal(err)
	}
	a.eventually("a drill", func() bool { _, theStack := supervise.Drilled(a.state); return theStack })
	for _, h := range c.hosts {
		if h != a {
			requireWords(t, h.fails(1, "drill", "kill-web"), "another drill of the stack is under way at host "+a.name)
			break
		}
	}
	var cut *netnsHost
	a.eventually("a host that is cut off", func() bool {
		for _, h := range c.hosts {
			if h != a && tables(h) != "" {
				cut = h
				return true
			}
		}
		return false
	})
	cut.killHost()
	if err := syscall.Kill(-drill.Process.Pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = drill.Wait() // it was killed
	a.eventually("an end of the cut by itself", func() bool {
		return !strings.Contains(shell(t, "ip", "netns", "exec", cut.netns, "nft", "list", "ruleset"), "expires")
	})
	cut.must("up", "-d")
	cut.awaitReady()
	a.eventually("no drill on host "+a.name, func() bool { // the process that undoes the drill ends
		_, _, code := a.run("drill", "undo")
		return code == 0
	})
	for _, h := range c.hosts {
		_, _ = exec.Command("ip", "netns", "exec", h.netns, "nft", "flush", "ruleset").CombinedOutput()
	}
}

// purges removes the stack from all hosts, and starts it again.
func (c *threeHosts) purges(t *testing.T) {
	_, a, b := c.roles()
	before := pids(a.awaitReady())
	b.killHost()
	requireWords(t, a.fails(1, "down", "--purge"), "host "+b.name+" is away", "Nothing was stopped")
	requireWords(t, b.fails(1, "down", "--purge"), "this host is not up")
	b.must("up", "-d")
	for node, pid := range pids(b.awaitReady()) {
		if pid != before[node] {
			t.Errorf("%s was started anew by a purge that was refused", node)
		}
	}

	requireWords(t, a.must("down", "--purge"), "down on all hosts", "the data of hosts one, three and two is removed")
	for _, h := range c.hosts {
		h.eventually("nothing is left on host "+h.name, func() bool {
			_, err := os.Stat(h.state)
			return errors.Is(err, os.ErrNotExist) && strings.TrimSpace(shell(t, "ip", "netns", "pids", h.netns)) == ""
		})
	}
	one := c.hosts["one"]
	requireWords(t, one.must("up", "-d", "--file", c.file()), "Hosts two and three have not joined")
	c.hosts["two"].must("join", one.token("two"), "-d")
}

// restores restores a backup from any host. It is refused where it would change only half of the
// stack.
func (c *threeHosts) restores(t *testing.T) {
	leader, a, b := c.roles()
	for _, h := range []*netnsHost{a, leader} {
		c.set("before-" + h.name)
		backup := filepath.Join(c.dir, h.name+".tar")
		h.must("backup", "-o", backup)
		c.set("after")
		requireWords(t, h.fails(2, "restore", backup), "--yes")
		var done supervise.Restored
		if err := json.Unmarshal([]byte(h.must("restore", backup, "--yes", "--json")), &done); err != nil {
			t.Fatal(err)
		}
		t.Logf("from host %s: Redis was stopped for %d ms", h.name, done.Stopped)
		c.requireValue("before-" + h.name)
		for name, aside := range done.AsideAt {
			if data, _ := filepath.Glob(filepath.Join(aside, "redis-*", "data", "appendonlydir", "*")); len(data) == 0 {
				t.Errorf("the former data of host %s is not in %s", name, aside)
			}
		}
		if done.Node == "" { // another host took the lead in the middle, because this machine is busy
			continue
		}
		if done.AsideAt[leader.name] == "" || len(done.AsideAt) != 3 {
			t.Errorf("the former data is said to be in %v", done.AsideAt)
		}
	}
	c.requireNoRestoreLeft()

	// A refused restore changes nothing.
	c.set("now")
	backup := filepath.Join(c.dir, a.name+".tar")
	whole, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	c.put("damaged.tar", string(whole[:len(whole)-3000]))
	requireWords(t, a.fails(1, "restore", filepath.Join(c.dir, "damaged.tar"), "--yes"), "nothing was changed", "damaged.tar")
	b.killHost()
	requireWords(t, a.fails(1, "restore", backup, "--yes"), "nothing was changed", "host "+b.name+" is away")
	requireWords(t, b.fails(1, "restore", backup, "--yes"), "this host is not up")
	b.must("up", "-d")
	b.awaitReady()
	c.requireValue("now")
	c.requireNoRestoreLeft()
}

// set sets the key by which a restore is recognised.
func (c *threeHosts) set(value string) {
	c.t.Helper()
	body, err := ask(&fasthttp.Client{ReadTimeout: 15 * time.Second}, c.entries()[0]+"/set?key=restored&value="+value)
	if err != nil {
		c.t.Fatal(err)
	}
	requireWords(c.t, body, "OK")
}

// requireValue checks that the key has a value at every entry.
func (c *threeHosts) requireValue(value string) {
	c.t.Helper()
	for _, entry := range c.entries() {
		if body, err := ask(&fasthttp.Client{ReadTimeout: 15 * time.Second}, entry+"/get?key=restored"); err != nil || body != value {
			c.t.Errorf("%s has %q, %v; want %q", entry, body, err, value)
		}
	}
}

// requireNoRestoreLeft checks that all that any host has of a restore is the old data.
func (c *threeHosts) requireNoRestoreLeft() {
	c.t.Helper()
	for _, h := range c.hosts {
		// A host that follows learns a moment later that the restore has ended.
		h.eventually("nothing of a restore is left on host "+h.name, func() bool {
			left, _ := filepath.Glob(filepath.Join(h.state, "restore*"))
			return len(left) == 0
		})
	}
}

// awaitNoDecision waits until no host has the decision of a restore any more.
func (c *threeHosts) awaitNoDecision() {
	c.t.Helper()
	for _, h := range c.hosts {
		h.eventually("host "+h.name+" has no decision any more", func() bool {
			_, err := os.Stat(filepath.Join(h.state, "restore.json"))
			return errors.Is(err, os.ErrNotExist)
		})
	}
}
