package drill

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	part "holdfast/internal/host"
	"holdfast/internal/needtest"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// virtualStack is a stack on three hosts with virtual addresses.
type virtualStack struct {
	*testing.T
	*supervisedStack
	addresses []string
}

// standUpVirtual stands up a small stack with virtual addresses. It is removed when the test ends,
// however it ends.
func standUpVirtual(t *testing.T, addresses int) *virtualStack {
	t.Helper()
	needHosts(t)
	if _, err := exec.LookPath("keepalived"); err != nil {
		needtest.Skip(t, err)
	}
	self := builtProgram(t)
	j, err := openJournal(filepath.Join(t.TempDir(), journalName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := openJournal(j.path); err != nil {
			t.Error(err)
		} else if err := left.undo(0); err != nil {
			t.Error(err)
		}
	})
	site := t.TempDir()
	if err := os.WriteFile(filepath.Join(site, "index.html"), []byte("kelp"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := Config{Hosts: 3}.ownStackSpec(requirements{hosts: true})
	w.text = fmt.Sprintf("metrics: {enabled: false}\napps: {site: {files: %s, nodes: 3}}\n", site)
	w.virtual = stack.Virtual{Addresses: make([]string, addresses), Advertise: 300 * time.Millisecond, Router: 51}
	v := &virtualStack{T: t}
	if v.supervisedStack, err = standUp(t.Context(), self, j, w); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.supervisedStack.close)
	v.addresses = v.spec.Entry.Virtual.Bare()
	v.await("both balancers serve", v.bothServe)
	return v
}

// now returns the stack's status, once a host leads.
func (v *virtualStack) now() (st supervise.Status) {
	v.Helper()
	v.await("a host leads", func() (leads bool) {
		var err error
		st, err = v.status(context.Background())
		return err == nil
	})
	return st
}

// atHost runs a holdfast command on a host.
func (v *virtualStack) atHost(one host, args ...string) {
	v.Helper()
	if _, err := output(context.Background(), "", "ip", v.onHost(one, args...)...); err != nil {
		v.Errorf("%s at %s: %v", args, one.name, err)
	}
}

// endProcesses ends the holdfast process of each host. The nodes keep running.
func (v *virtualStack) endProcesses() {
	v.Helper()
	for _, s := range v.source.endpoints {
		seen, err := s.client.Hosts(context.Background())
		if err != nil {
			v.Fatal(err)
		}
		id, err := process.Identify(seen.PID)
		if err == nil {
			err = process.Signal(id, syscall.SIGTERM, false)
		}
		if err != nil {
			v.Fatal(err)
		}
	}
	v.await("the hosts' processes have ended", func() bool {
		return !slices.ContainsFunc(v.source.endpoints, func(s endpoint) bool { return part.Claimed(s.state) })
	})
}

// holding returns the names of the hosts that have an address.
func (v *virtualStack) holding(address string) (names []string) {
	v.Helper()
	all, err := v.hosts.holders(context.Background(), address)
	if err != nil {
		v.Fatal(err)
	}
	return hostNames(all...)
}

// awaitHolder waits until exactly one host has an address and keeps it. It returns that host's
// name.
func (v *virtualStack) awaitHolder(address string) string {
	v.Helper()
	var last []string
	since := time.Now()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now := v.holding(address)
		if !slices.Equal(now, last) {
			last, since = now, time.Now()
		}
		if len(now) == 1 && time.Since(since) > 1500*time.Millisecond {
			return now[0]
		}
	}
	v.Fatalf("%s is at %q", address, last)
	return ""
}

// nodeOn returns the node of a kind on a host.
func (v *virtualStack) nodeOn(kind plan.Kind, host string) supervise.NodeStatus {
	v.Helper()
	for _, n := range v.now().Nodes {
		if n.Kind == kind && n.Host == host {
			return n
		}
	}
	v.Fatalf("%s has no %s", host, kind)
	return supervise.NodeStatus{}
}

func (v *virtualStack) do(node string, action supervise.Action) {
	v.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := v.client().RetryWhileBusy(func(string) {}).Do(ctx, node, action); err != nil {
		v.Fatalf("%s %s: %v", action, node, err)
	}
}

// pause sends requests to an address while something happens, and until one host has settled on it.
// It returns the longest time without an answer.
func (v *virtualStack) pause(address string, happens func()) time.Duration {
	v.Helper()
	return v.asked(address, func() {
		happens()
		v.awaitHolder(address)
	})
}

// asked is pause without waiting for the address to settle.
func (v *virtualStack) asked(address string, happens func()) time.Duration {
	v.Helper()
	client := http.Client{Timeout: 150 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(address, strconv.Itoa(hostsPort)) + "/"
	stop := make(chan struct{})
	var longest time.Duration
	var asking sync.WaitGroup
	asking.Go(func() {
		last := time.Now()
		for {
			if resp, err := client.Get(url); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					longest, last = max(longest, time.Since(last)), time.Now()
				}
			}
			select {
			case <-stop:
				longest = max(longest, time.Since(last))
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	happens()
	close(stop)
	asking.Wait()
	return longest
}

// moves makes something happen that takes an address away from its host, and checks that another
// host has the address soon.
func (v *virtualStack) moves(what, address string, bound time.Duration, happens func(from string)) {
	v.Helper()
	from := v.awaitHolder(address)
	pause := v.pause(address, func() {
		happens(from)
		v.await(what, func() bool { return !slices.Contains(v.holding(address), from) && len(v.holding(address)) == 1 })
	})
	v.Logf("%s: the address went from %s to %s, %v without an answer", what, from, v.awaitHolder(address), pause.Round(time.Millisecond))
	if pause > bound {
		v.Errorf("%s: %v without an answer", what, pause)
	}
}

func (v *virtualStack) await(what string, holds func() bool) {
	v.Helper()
	if !clock.Within(30*time.Second, 20*time.Millisecond, holds) {
		v.Fatalf("%s: not within 30 s", what)
	}
}

// cut drops everything between a host and the others while its link stays up. It also cuts the host
// off from the clients, unless fromHosts is set.
func (v *virtualStack) cut(name string, fromHosts bool) {
	v.Helper()
	others := slices.DeleteFunc(hostNames(v.hosts.all...), func(other string) bool { return other == name })
	if !fromHosts {
		others = append(others, clients)
	}
	if err := v.hosts.nft(context.Background(), v.hosts.cutRules(both([]string{name}, others))); err != nil {
		v.Fatal(err)
	}
}

func (v *virtualStack) uncut() {
	v.Helper()
	if err := v.hosts.nft(context.Background(), "add table bridge cut\ndelete table bridge cut\n"); err != nil {
		v.Fatal(err)
	}
}

// The limits are generous: on a busy machine every step may take some 100 ms.
const soon = 5 * time.Second

func TestAVirtualAddressMovesToAHostThatServes(t *testing.T) {
	v := standUpVirtual(t, 1)
	address := v.addresses[0]
	holder := v.awaitHolder(address)
	v.await("the status knows who has it", func() bool {
		known := v.now().Virtual
		return len(known) == 1 && known[0].Address == address && slices.Equal(known[0].Hosts, []string{holder})
	})
	if entry := v.now().Entry; entry != fmt.Sprintf("http://%s:%d", address, hostsPort) {
		t.Errorf("the entry is %s", entry)
	}

	v.moves("the balancer is killed", address, soon, func(from string) {
		v.do(v.nodeOn(plan.Balancer, from).Name, supervise.ActKill)
	})
	v.moves("the balancer is started anew", address, soon, func(from string) {
		v.do(v.nodeOn(plan.Balancer, from).Name, supervise.ActRestart)
	})
	v.moves("the balancer is stopped by a signal", address, 2*soon, func(from string) {
		v.do(v.nodeOn(plan.Balancer, from).Name, supervise.ActPause)
	})
	for _, n := range v.now().Nodes {
		if n.State == supervise.Paused {
			v.do(n.Name, supervise.ActResume)
		}
	}
	v.await("both balancers serve", v.bothServe)
	v.moves("keepalived is stopped", address, soon, func(from string) {
		v.do(v.nodeOn(plan.Keepalived, from).Name, supervise.ActStop)
	})
	for _, n := range v.now().Nodes {
		if n.Kind == plan.Keepalived && n.State == supervise.Down {
			v.do(n.Name, supervise.ActStart)
		}
	}

	t.Run("a host that is cut off gives it up, and does not take it back", func(t *testing.T) {
		from := v.awaitHolder(address)
		cut := v.asked(address, func() {
			v.cut(from, false)
			v.await("another host has it, too", func() bool { return len(v.holding(address)) == 2 })
			time.Sleep(2 * time.Second) // and serves requests meanwhile
		})
		healed := v.pause(address, v.uncut)
		t.Logf("%v without an answer when it is cut off, %v when it is back", cut.Round(time.Millisecond), healed.Round(time.Millisecond))
		if max(cut, healed) > soon {
			t.Errorf("%v and %v without an answer", cut, healed)
		}
	})
	t.Run("a host that is cut off from the others alone does not take it", func(t *testing.T) {
		v.await("both balancers serve", v.bothServe)
		from := v.awaitHolder(address)
		other := ""
		for _, n := range v.now().Nodes {
			if n.Kind == plan.Keepalived && n.Host != from {
				other = n.Host
			}
		}
		v.cut(other, true)
		began, had := time.Now(), time.Duration(0)
		for last := began; time.Since(began) < 4*time.Second; time.Sleep(20 * time.Millisecond) {
			if slices.Contains(v.holding(address), other) {
				had += time.Since(last)
			}
			last = time.Now()
		}
		v.uncut()
		t.Logf("%s had it for %v", other, had.Round(time.Millisecond))
		// The host may take the address just before it notices the cut, and then gives it back at
		// once.
		if had > time.Second {
			t.Errorf("%s, which is cut off, had the address for %v", other, had)
		}
		if got := v.awaitHolder(address); got != from {
			t.Errorf("%s has it in the end, and %s had it all the time", got, from)
		}
	})
	t.Run("a keepalived that is killed leaves one holder", func(t *testing.T) {
		v.await("both balancers serve", v.bothServe)
		from := v.awaitHolder(address)
		pause := v.pause(address, func() { v.do(v.nodeOn(plan.Keepalived, from).Name, supervise.ActKill) })
		t.Logf("%v without an answer, and %s has it after %s", pause.Round(time.Millisecond), v.awaitHolder(address), from)
		if pause > soon {
			t.Errorf("%v without an answer", pause)
		}
	})
	t.Run("without a supervisor it leaves a balancer that is dead", func(t *testing.T) {
		v.await("both balancers serve", v.bothServe)
		from := v.awaitHolder(address)
		balancer, keeper := v.nodeOn(plan.Balancer, from), v.nodeOn(plan.Keepalived, from)
		v.endProcesses()
		if got := v.awaitHolder(address); got != from {
			t.Errorf("the end of the processes moves it from %s to %s", from, got)
		}
		id, err := process.Identify(balancer.PID)
		if err != nil {
			t.Fatal(err)
		}
		pause := v.pause(address, func() {
			if err := process.Signal(id, 9, true); err != nil {
				t.Fatal(err)
			}
			v.await("another host has it", func() bool { return !slices.Contains(v.holding(address), from) && len(v.holding(address)) == 1 })
		})
		t.Logf("%v without an answer", pause.Round(time.Millisecond))
		if pause > 2*soon {
			t.Errorf("%v without an answer", pause)
		}
		to := v.awaitHolder(address)
		var starting sync.WaitGroup
		for _, one := range v.hosts.all { // no host comes up without another one
			starting.Go(func() { v.atHost(one, "up", "-d") })
		}
		starting.Wait()
		if after := v.nodeOn(plan.Keepalived, from); after.PID != keeper.PID {
			t.Errorf("the next processes start %s anew", keeper.Name)
		}
		v.await("both balancers serve", v.bothServe)
		if got := v.awaitHolder(address); got != to {
			t.Errorf("the next processes move it from %s to %s", to, got)
		}
	})
	t.Run("it is nowhere when the stack is down", func(t *testing.T) {
		v.atHost(v.hosts.all[0], "down")
		if got := v.holding(address); len(got) > 0 {
			t.Errorf("%q have it", got)
		}
	})
}

// bothServe reports whether both balancers are up and both keepalived nodes know it.
func (v *virtualStack) bothServe() bool {
	for _, n := range v.now().Nodes {
		if (n.Kind == plan.Balancer || n.Kind == plan.Keepalived) && n.State != supervise.Up {
			return false
		}
		if n.Kind != plan.Keepalived {
			continue
		}
		b, err := os.ReadFile(filepath.Join(v.stateOf(n.Host), "nodes", n.Name, plan.HealthFile))
		if err != nil || string(b) != plan.Well {
			return false
		}
	}
	return true
}

func TestWithTwoVirtualAddressesBothBalancersServe(t *testing.T) {
	v := standUpVirtual(t, 2)
	apart := func() bool {
		one, two := v.holding(v.addresses[0]), v.holding(v.addresses[1])
		return len(one) == 1 && len(two) == 1 && one[0] != two[0]
	}
	v.await("each host has one", apart)
	one, two := v.awaitHolder(v.addresses[0]), v.awaitHolder(v.addresses[1])
	v.do(v.nodeOn(plan.Balancer, one).Name, supervise.ActStop)
	v.await("one host has both", func() bool {
		return slices.Equal(v.holding(v.addresses[0]), []string{two}) && slices.Equal(v.holding(v.addresses[1]), []string{two})
	})
	v.do(v.nodeOn(plan.Balancer, one).Name, supervise.ActStart)
	v.await("each host has its own again", apart)
}
