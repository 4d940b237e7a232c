package drill

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// virtualStack is a stack on three hosts with virtual addresses, looked after from this
// process.
type virtualStack struct {
	*testing.T
	hosts     *hosts
	sup       *supervise.Supervisor
	config    supervise.Config
	addresses []string
	port      int
}

// standUpVirtual stands up a small stack with virtual addresses, which end with these
// numbers. Everything is taken away with the test, whatever happened.
func standUpVirtual(t *testing.T, numbers ...int) *virtualStack {
	t.Helper()
	needHosts(t)
	if _, err := exec.LookPath("keepalived"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	self := builtProgram(t)
	j, err := openJournal(filepath.Join(t.TempDir(), journalName))
	if err != nil {
		t.Fatal(err)
	}
	v := &virtualStack{T: t, port: 8080}
	t.Cleanup(func() {
		if v.sup != nil {
			v.sup.Close()
		}
		if left, err := openJournal(j.path); err != nil {
			t.Error(err)
		} else if err := left.undo(0); err != nil {
			t.Error(err)
		}
	})
	if v.hosts, err = makeHosts(t.Context(), j, Config{Hosts: 3}.wanted(true, false).hosts); err != nil {
		t.Fatal(err)
	}
	base := v.hosts.machine.As4()
	s := v.declared(filepath.Join(t.TempDir(), "site"))
	for _, number := range numbers {
		base[3] = byte(number)
		v.addresses = append(v.addresses, net.IP(base[:]).String())
		s.Entry.Virtual.Addresses = append(s.Entry.Virtual.Addresses, v.addresses[len(v.addresses)-1]+"/24")
	}
	state, err := os.MkdirTemp("", "hf-virtual-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	v.config = supervise.Config{Stack: s, BaseDir: state, StateDir: state, Self: self, Environ: os.Environ(), Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for _, one := range v.hosts.all {
		v.config.Hosts = append(v.config.Hosts, plan.Place{Name: one.name, Address: one.address.String(), Netns: filepath.Join(netnsDir, one.netns)})
	}
	v.open()
	return v
}

// declared is the stack: two balancers, and a directory that Holdfast serves.
func (v *virtualStack) declared(site string) stack.Stack {
	v.Helper()
	if err := os.MkdirAll(site, 0o755); err != nil {
		v.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(site, "index.html"), []byte("kelp"), 0o644); err != nil {
		v.Fatal(err)
	}
	text := fmt.Sprintf("entry: {listen: '0.0.0.0:%d', auth: none}\nmetrics: {enabled: false}\napps: {site: {files: %s, nodes: 3}}\n", v.port, site)
	s, _, err := stack.Parse("holdfast.yaml", []byte(text))
	if err != nil {
		v.Fatal(err)
	}
	s.Entry.Virtual.Advertise, s.Entry.Virtual.Router = 300*time.Millisecond, 51
	return s
}

// open has a supervisor stand the stack up, or adopt what runs.
func (v *virtualStack) open() {
	v.Helper()
	var err error
	if v.sup, err = supervise.Open(v.config); err != nil {
		v.Fatal(err)
	}
	if err := v.sup.Prepare(); err != nil {
		v.Fatal(err)
	}
	if err := v.sup.Start(v.Context()); err != nil {
		v.Fatal(err)
	}
}

// testWriter puts the supervisor's log into the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// holders are the hosts that have an address.
func (v *virtualStack) holders(address string) (names []string) {
	v.Helper()
	for _, one := range v.hosts.all {
		out, err := output(context.Background(), "", "ip", "-n", one.netns, "-oneline", "-4", "address", "show", "dev", hostLink)
		if err != nil {
			v.Fatal(err)
		}
		if strings.Contains(out, " "+address+"/") {
			names = append(names, one.name)
		}
	}
	return names
}

// settled waits until one host alone has an address, and goes on having it.
func (v *virtualStack) settled(address string) string {
	v.Helper()
	var last []string
	since := time.Now()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now := v.holders(address)
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

// on is the node of a kind on a host.
func (v *virtualStack) on(kind plan.Kind, host string) supervise.NodeStatus {
	v.Helper()
	for _, n := range v.sup.Status().Nodes {
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
	if err := v.sup.Do(ctx, node, action); err != nil {
		v.Fatalf("%s %s: %v", action, node, err)
	}
}

// pause asks an address all the time while something happens and until it is settled
// again, and returns the longest time without an answer.
func (v *virtualStack) pause(address string, happens func()) time.Duration {
	v.Helper()
	return v.asked(address, func() {
		happens()
		v.settled(address)
	})
}

// asked is pause for the time of what happens alone.
func (v *virtualStack) asked(address string, happens func()) time.Duration {
	v.Helper()
	client := http.Client{Timeout: 150 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(address, strconv.Itoa(v.port)) + "/"
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

// moves has something happen that takes an address away from its host, and checks that
// another host has it then, soon.
func (v *virtualStack) moves(what, address string, bound time.Duration, happens func(from string)) {
	v.Helper()
	from := v.settled(address)
	pause := v.pause(address, func() {
		happens(from)
		v.within(what, func() bool { return !slices.Contains(v.holders(address), from) && len(v.holders(address)) == 1 })
	})
	v.Logf("%s: the address went from %s to %s, %v without an answer", what, from, v.settled(address), pause.Round(time.Millisecond))
	if pause > bound {
		v.Errorf("%s: %v without an answer", what, pause)
	}
}

func (v *virtualStack) within(what string, holds func() bool) {
	v.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			v.Fatalf("%s: not within 30 s", what)
		}
	}
}

// cut has nothing pass between a host and the others, while its link stays up.
func (v *virtualStack) cut(name string) {
	v.Helper()
	i := slices.IndexFunc(v.hosts.all, func(one host) bool { return one.name == name })
	port := v.hosts.all[i].port
	err := v.hosts.nft(context.Background(), fmt.Sprintf(`add table bridge cut
add chain bridge cut forward { type filter hook forward priority 0; }
add rule bridge cut forward iifname %q drop
add rule bridge cut forward oifname %q drop
`, port, port))
	if err != nil {
		v.Fatal(err)
	}
}

func (v *virtualStack) uncut() {
	v.Helper()
	if err := v.hosts.nft(context.Background(), "add table bridge cut\ndelete table bridge cut\n"); err != nil {
		v.Fatal(err)
	}
}

// Bounds are generous: on a busy machine every step may take some 100 ms.
const soon = 5 * time.Second

func TestAVirtualAddressMovesToAHostThatServes(t *testing.T) {
	v := standUpVirtual(t, 100)
	address := v.addresses[0]
	holder := v.settled(address)
	v.within("the status knows who has it", func() bool {
		known := v.sup.Status().Virtual
		return len(known) == 1 && known[0].Address == address && slices.Equal(known[0].Hosts, []string{holder})
	})
	if entry := v.sup.Status().Entry; entry != fmt.Sprintf("http://%s:%d", address, v.port) {
		t.Errorf("the entry is %s", entry)
	}

	v.moves("the balancer is killed", address, soon, func(from string) {
		v.do(v.on(plan.Balancer, from).Name, supervise.ActKill)
	})
	v.moves("the balancer is started anew", address, soon, func(from string) {
		v.do(v.on(plan.Balancer, from).Name, supervise.ActRestart)
	})
	v.moves("the balancer is stopped by a signal", address, 2*soon, func(from string) {
		v.do(v.on(plan.Balancer, from).Name, supervise.ActPause)
	})
	for _, n := range v.sup.Status().Nodes {
		if n.State == supervise.Paused {
			v.do(n.Name, supervise.ActResume)
		}
	}
	v.within("both balancers serve", v.bothServe)
	v.moves("keepalived is stopped", address, soon, func(from string) {
		v.do(v.on(plan.Keepalived, from).Name, supervise.ActStop)
	})
	for _, n := range v.sup.Status().Nodes {
		if n.Kind == plan.Keepalived && n.State == supervise.Down {
			v.do(n.Name, supervise.ActStart)
		}
	}

	t.Run("a host that is cut off gives it up, and does not take it back", func(t *testing.T) {
		from := v.settled(address)
		cut := v.asked(address, func() {
			v.cut(from)
			v.within("another host has it, too", func() bool { return len(v.holders(address)) == 2 })
			time.Sleep(2 * time.Second) // and answers meanwhile
		})
		healed := v.pause(address, v.uncut)
		t.Logf("%v without an answer when it is cut off, %v when it is back", cut.Round(time.Millisecond), healed.Round(time.Millisecond))
		if max(cut, healed) > soon {
			t.Errorf("%v and %v without an answer", cut, healed)
		}
	})
	t.Run("a keepalived that is killed leaves one holder", func(t *testing.T) {
		v.within("both balancers serve", v.bothServe)
		from := v.settled(address)
		pause := v.pause(address, func() { v.do(v.on(plan.Keepalived, from).Name, supervise.ActKill) })
		t.Logf("%v without an answer, and %s has it after %s", pause.Round(time.Millisecond), v.settled(address), from)
		if pause > soon {
			t.Errorf("%v without an answer", pause)
		}
	})
	t.Run("without a supervisor it leaves a balancer that is dead", func(t *testing.T) {
		v.within("both balancers serve", v.bothServe)
		from := v.settled(address)
		balancer, keeper := v.on(plan.Balancer, from), v.on(plan.Keepalived, from)
		v.sup.Close()
		v.sup = nil
		if got := v.settled(address); got != from {
			t.Errorf("the end of the supervisor moves it from %s to %s", from, got)
		}
		id, err := process.Identify(balancer.PID)
		if err != nil {
			t.Fatal(err)
		}
		pause := v.pause(address, func() {
			if err := process.Signal(id, 9, true); err != nil {
				t.Fatal(err)
			}
			v.within("another host has it", func() bool { return !slices.Contains(v.holders(address), from) && len(v.holders(address)) == 1 })
		})
		t.Logf("%v without an answer", pause.Round(time.Millisecond))
		if pause > 2*soon {
			t.Errorf("%v without an answer", pause)
		}
		to := v.settled(address)
		v.open()
		if after := v.on(plan.Keepalived, from); after.PID != keeper.PID {
			t.Errorf("the next supervisor starts %s anew", keeper.Name)
		}
		v.within("both balancers serve", v.bothServe)
		if got := v.settled(address); got != to {
			t.Errorf("the next supervisor moves it from %s to %s", to, got)
		}
	})
	t.Run("it is nowhere when the stack is down", func(t *testing.T) {
		if err := v.sup.Stop(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := v.holders(address); len(got) > 0 {
			t.Errorf("%q have it", got)
		}
	})
}

// bothServe reports whether both balancers are up, and their keepalived nodes were told.
func (v *virtualStack) bothServe() bool {
	for _, n := range v.sup.Status().Nodes {
		if (n.Kind == plan.Balancer || n.Kind == plan.Keepalived) && n.State != supervise.Up {
			return false
		}
		if n.Kind != plan.Keepalived {
			continue
		}
		b, err := os.ReadFile(filepath.Join(v.config.StateDir, "nodes", n.Name, plan.HealthFile))
		if err != nil || string(b) != plan.Well {
			return false
		}
	}
	return true
}

func TestWithTwoVirtualAddressesBothBalancersServe(t *testing.T) {
	v := standUpVirtual(t, 100, 101)
	apart := func() bool {
		one, two := v.holders(v.addresses[0]), v.holders(v.addresses[1])
		return len(one) == 1 && len(two) == 1 && one[0] != two[0]
	}
	v.within("each host has one", apart)
	one, two := v.settled(v.addresses[0]), v.settled(v.addresses[1])
	v.do(v.on(plan.Balancer, one).Name, supervise.ActStop)
	v.within("one host has both", func() bool {
		return slices.Equal(v.holders(v.addresses[0]), []string{two}) && slices.Equal(v.holders(v.addresses[1]), []string{two})
	})
	v.do(v.on(plan.Balancer, one).Name, supervise.ActStart)
	v.within("each host has its own again", apart)
	if err := v.sup.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
