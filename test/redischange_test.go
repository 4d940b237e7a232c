package test

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// membershipStack is a stack whose redis nodes and Sentinels change, case by case, under one load.
type membershipStack struct {
	*instance
	entry                string
	replicas, sentinels  int
	ports, sentinelPorts []int
	settle               string // empty: 300ms
}

// set writes the stack file.
func (m *membershipStack) set() {
	list := func(ports []int) string { return strings.ReplaceAll(strings.Trim(fmt.Sprint(ports), "[]"), " ", ", ") }
	m.write(fmt.Sprintf("name: %s\n%srollout: {settle: %s}\nredis: {replicas: %d, sentinels: %d, ports: [%s], sentinel-ports: [%s]}\n",
		m.name, m.entry, cmp.Or(m.settle, "300ms"), m.replicas, m.sentinels, list(m.ports[:min(len(m.ports), m.replicas+1)]), list(m.sentinelPorts[:min(len(m.sentinelPorts), m.sentinels)])))
}

// addresses returns the addresses of the nodes of a kind, sorted by node.
func (m *membershipStack) addresses(kind plan.Kind) (all []string) {
	for _, n := range m.status().Nodes {
		if n.Kind == kind {
			all = append(all, n.Address)
		}
	}
	return all
}

// knownAddresses returns the addresses in a table of a Sentinel.
func (m *membershipStack) knownAddresses(sentinel, table string) (all []string) {
	m.t.Helper()
	fields := strings.Fields(m.redisCLI(sentinel, "sentinel", table, m.name))
	for i := range fields {
		if fields[i] == "ip" && i+3 < len(fields) && fields[i+2] == "port" {
			all = append(all, net.JoinHostPort(fields[i+1], fields[i+3]))
		}
	}
	slices.Sort(all)
	return all
}

// requireExactMembership checks that every Sentinel knows exactly the existing nodes, and has the
// quorum for their number.
func (m *membershipStack) requireExactMembership(what string) {
	m.t.Helper()
	st := m.status()
	master := m.master()
	if got := len(m.addresses(plan.Redis)); master == "" || got != m.replicas+1 {
		m.t.Fatalf("%s: %d redis nodes, the master is %q", what, got, master)
	}
	if got := len(m.addresses(plan.Sentinel)); got != m.sentinels {
		m.t.Fatalf("%s: %d Sentinels", what, got)
	}
	for i, address := range m.addresses(plan.Redis) {
		if i < len(m.ports) && !strings.HasSuffix(address, fmt.Sprintf(":%d", m.ports[i])) {
			m.t.Errorf("%s: redis-%d is at %s", what, i+1, address)
		}
	}
	for _, n := range st.Nodes {
		if n.Kind != plan.Sentinel {
			continue
		}
		without := func(kind plan.Kind, but string) []string {
			all := slices.DeleteFunc(m.addresses(kind), func(a string) bool { return a == but })
			slices.Sort(all)
			return all
		}
		if got, want := m.knownAddresses(n.Name, "replicas"), without(plan.Redis, m.node(master).Address); !slices.Equal(got, want) {
			m.t.Errorf("%s: %s knows the replicas %v, and there are %v", what, n.Name, got, want)
		}
		if got, want := m.knownAddresses(n.Name, "sentinels"), without(plan.Sentinel, n.Address); !slices.Equal(got, want) {
			m.t.Errorf("%s: %s knows the Sentinels %v, and there are %v", what, n.Name, got, want)
		}
		if about := m.redisCLI(n.Name, "sentinel", "master", m.name); !strings.Contains(about, fmt.Sprintf("quorum\n%d\n", m.sentinels/2+1)) {
			m.t.Errorf("%s: %s has another quorum than %d:\n%s", what, n.Name, m.sentinels/2+1, about)
		}
	}
}

// failOver kills the master, and checks that another one takes over.
func (m *membershipStack) failOver(what string) {
	m.t.Helper()
	was := m.node(m.master())
	kill(m.t, was.PID)
	m.await(what+": another master", 20*time.Second, func() bool { now := m.master(); return now != "" && now != was.Name })
	m.awaitHealthy()
}

// makeMaster makes a redis node the master. It repeats this while it is refused, at the end of a
// failover.
func (m *membershipStack) makeMaster(name string) {
	m.t.Helper()
	m.await(name+" as the master", 20*time.Second, func() bool {
		if m.master() != name {
			m.run("switchover", "--to", name)
		}
		return m.master() == name
	})
}

// apply applies the file, and first checks that its plan has these lines.
func (m *membershipStack) apply(what string, lines ...string) {
	m.t.Helper()
	m.set()
	said := m.must("apply", "--plan")
	for _, line := range lines {
		if !strings.Contains(strings.Join(strings.Fields(said), " "), line) {
			m.t.Errorf("%s: the plan does not have %q:\n%s", what, line, said)
		}
	}
	m.must("apply", "--yes")
	m.awaitHealthy()
	m.requireExactMembership(what)
	if said := m.must("apply"); !strings.Contains(said, "Nothing to change") {
		m.t.Errorf("%s: the next 'apply' says %q", what, said)
	}
}

// underLoad starts the stack, and runs the cases while clients use it, none of whose requests may
// fail.
func (m *membershipStack) underLoad(cases func()) {
	m.t.Helper()
	m.set()
	m.must("up", "-d")
	l := startLoadOf(m.t, m.awaitHealthy().Entry, 50, false)
	cases()
	o := l.finish(m.t)
	o.requireNothingFailed(m.t)
	o.requireTraffic(m.t, 500)
}

func TestRedisNodesAndSentinelsComeAndGoUnderLoad(t *testing.T) {
	beside(t, oneStack)
	m := &membershipStack{instance: newInstance(t, ""), entry: minimal(t), replicas: 2, sentinels: 3}
	m.underLoad(func() {
		m.replicas = 3
		m.apply("a replica more", "redis-4 start redis.replicas", "sentinel-1 set redis.replicas", "balancer-1 reload redis.replicas")
		m.failOver("a replica more")

		m.makeMaster("redis-4")
		m.replicas = 2
		m.apply("the master goes", "redis-4 hand over", "redis-4 stop redis.replicas", "sentinel-2 forget redis-4 is no longer where it was")
		m.failOver("the master has gone")

		m.sentinels = 5
		m.apply("Sentinels more", "sentinel-4 start redis.sentinels")
		m.sentinels = 3
		m.apply("Sentinels fewer", "sentinel-4 stop redis.sentinels", "sentinel-1 forget sentinel-4, sentinel-5 are no longer where they were")
	})
}

func TestRedisNodesAndSentinelsMoveUnderLoad(t *testing.T) {
	beside(t, oneStack)
	m := &membershipStack{instance: newInstance(t, ""), entry: minimal(t), replicas: 2, sentinels: 3}
	m.underLoad(func() {
		m.movesPorts()
		m.survivesAKill()
		m.putsBackFailedReplica()
		m.failOver("all have moved")
		m.refuses()
	})
}

// movesPorts changes ports: of a replica and the master at once, and of Sentinels.
func (m *membershipStack) movesPorts() {
	m.makeMaster("redis-1")
	for range 3 {
		m.ports = append(m.ports, freePort(m.t))
	}
	for range 3 {
		m.sentinelPorts = append(m.sentinelPorts, freePort(m.t))
	}
	m.apply("all move", "redis-1 hand over", "redis-2 restart", "sentinel-3 restart")
}

// putsBackFailedReplica adds a replica that cannot start. It is removed again, and no Sentinel
// remembers it. What it cannot read is its own file, from an earlier time in the stack.
func (m *membershipStack) putsBackFailedReplica() {
	file := filepath.Join(m.state, "nodes", "redis-4", "redis.conf")
	before, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("no such setting\n"), 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.replicas = 3
	m.set()
	if said := m.fails(1, "apply", "--yes"); !strings.Contains(said, "start redis-4") || !strings.Contains(said, "no such setting") || !strings.Contains(said, "it was taken away again") {
		m.t.Errorf("it says %q", said)
	}
	m.replicas = 2
	m.set()
	m.requireExactMembership("a replica that does not start")
	if err := os.WriteFile(file, before, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// survivesAKill makes a change whose supervisor is killed in the middle: when the node that leaves
// has just ended, and has to be forgotten.
func (m *membershipStack) survivesAKill() {
	m.replicas = 3
	m.apply("a replica more again")
	before := m.status()
	m.replicas = 2
	m.set()
	cmd := m.command("apply", "--yes")
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.await("redis-4 is gone", 30*time.Second, func() bool {
		_, there := m.status().Node("redis-4")
		return !there
	})
	m.killSupervisor()
	_ = cmd.Wait()
	m.must("up", "-d")
	after := m.awaitHealthy()
	m.requireExactMembership("the supervisor was killed")
	if m.statusCommand().Differs || m.statusCommand().Change != nil {
		m.t.Errorf("%+v", m.statusCommand())
	}
	pids := func(st supervise.Status) map[string]int {
		all := map[string]int{}
		for _, n := range st.Nodes {
			if n.Kind == plan.Redis || n.Kind == plan.Sentinel {
				all[n.Name] = n.PID
			}
		}
		return all
	}
	was := pids(before)
	delete(was, "redis-4")
	if is := pids(after); !maps.Equal(is, was) {
		m.t.Errorf("other processes: %v, and before %v", is, was)
	}
}

// refuses makes changes that are refused before anything is done.
func (m *membershipStack) refuses() {
	replicas, sentinels, ports := m.replicas, m.sentinels, m.ports
	for _, c := range []struct {
		what string
		set  func()
		word string
	}{
		{"no replica", func() { m.replicas = 0 }, "redis.replicas: the last replica cannot go"},
		{"no Sentinel", func() { m.sentinels = 0 }, "redis.sentinels: from 3 to 0"},
		{"one Sentinel", func() { m.sentinels = 1 }, "redis.sentinels: the last but one"},
		{"exchanged ports", func() { m.ports = []int{ports[1], ports[0], ports[2]} }, "cannot exchange their addresses"},
	} {
		c.set()
		m.set()
		if said := m.fails(1, "apply", "--yes"); !strings.Contains(said, c.word) {
			m.t.Errorf("%s: it says %q", c.what, said)
		}
		m.replicas, m.sentinels, m.ports = replicas, sentinels, ports
	}

	// The replica that would stay is down.
	m.makeMaster("redis-1")
	m.must("stop", "redis-2")
	m.replicas = 1
	m.set()
	if said := m.fails(1, "apply", "--yes"); !strings.Contains(said, "redis-3 has the last copy of the data") || !strings.Contains(said, "redis-2") {
		m.t.Errorf("it says %q", said)
	}
	m.must("start", "redis-2")
	m.replicas = replicas
	m.set()
	m.awaitHealthy()
	m.requireExactMembership("refused")
}
