package supervise

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// No redis node starts as master on a guess. This file holds the pure rules, on facts that
// others gathered: which role a redis node starts in, who succeeds the master, and whether the
// stack is in the known deadlock that the Sentinels do not leave by themselves.

// redisFacts holds what the Sentinels and the redis nodes replied when they were asked at one time.
type redisFacts struct {
	// Sentinels is how many Sentinels the stack has. Views holds the views of those that
	// replied.
	Sentinels int
	Views     []redis.View
	// Nodes holds the addresses of the stack's redis nodes, by name. Standings holds the roles
	// and offsets of those that replied.
	Nodes     map[string]string
	Standings map[string]redis.Standing
	// RepliedWithError holds the redis nodes that replied with an error: they do not hang.
	RepliedWithError map[string]bool
	// Running holds the redis nodes that have a process, whether it replies or not.
	Running map[string]bool
	// Apart is true where each redis node has a supervisor of its own (in pods). Then only a
	// reply shows that another node runs, and Running holds the own node alone.
	Apart bool
	// Appointed is the master of a stack without Sentinels.
	Appointed string
	// WrongClocks holds the redis nodes whose clocks are wrong. Only a switchover fills it in.
	WrongClocks map[string]bool
}

// master returns the address of the master as the Sentinels know it, and its configuration
// epoch. A majority of the Sentinels has to reply. Among the replies the highest epoch wins: a
// majority gave it, and after a loss of power in the middle of a failover the other Sentinels
// may not have heard of it yet.
func (f redisFacts) master() (address string, epoch int64, err error) {
	if len(f.Views) <= f.Sentinels/2 {
		return "", 0, fmt.Errorf("%d of %d Sentinels answer, and a majority is needed to know the master", len(f.Views), f.Sentinels)
	}

	best := slices.MaxFunc(f.Views, func(a, b redis.View) int { return int(a.Epoch - b.Epoch) })
	for _, v := range f.Views {
		if v.Epoch == best.Epoch && v.Address != best.Address {
			return "", 0, fmt.Errorf("the Sentinels disagree: %s and %s are both named master in epoch %d", v.Address, best.Address, v.Epoch)
		}
	}

	return best.Address, best.Epoch, nil
}

// failing reports whether any Sentinel has a failover under way.
func (f redisFacts) failing() bool {
	return slices.ContainsFunc(f.Views, func(v redis.View) bool { return v.Failing })
}

// noOtherRuns reports whether it is certain that no other redis node runs. A node that has a
// process and does not reply counts as running: it may be starved, and hold writes that the dead
// master's file does not.
func (f redisFacts) noOtherRuns(node string) bool {
	if f.Apart {
		return false // a node that does not reply may run, or be cut off from here alone
	}
	for name := range f.Running {
		if name != node {
			return false
		}
	}
	return len(f.Standings) == 0
}

// otherMaster returns a node other than this one that calls itself master, or "".
func (f redisFacts) otherMaster(node string) string {
	for name, s := range f.Standings {
		if s.Master && name != node {
			return name
		}
	}
	return ""
}

// majorityNames reports whether a majority of the Sentinels names this address master.
func (f redisFacts) majorityNames(address string) bool {
	n := 0
	for _, v := range f.Views {
		if v.Address == address {
			n++
		}
	}
	return n > f.Sentinels/2
}

// replaced reports whether a node that calls itself master is being replaced, or was replaced
// and does not know it yet.
func (f redisFacts) replaced(node string) bool {
	address, _, err := f.master()
	return f.otherMaster(node) != "" || f.failing() || err == nil && f.nameOf(address) != node
}

// answers reports whether a redis node has replied with its role.
func (f redisFacts) answers(node string) bool {
	_, yes := f.Standings[node]
	return yes
}

// nameOf returns the node that has an address, or "".
func (f redisFacts) nameOf(address string) string { return nodeAt(f.Nodes, address) }

// startDecision is the decision about a redis node that is to be started.
type startDecision struct {
	Master  bool
	Replica string // address of the master to follow; empty for a master
	// Wait is the reason why the node must not start yet; empty if it may. Refused is true when
	// this will hardly change by itself, so that a person has to know.
	Wait    string
	Refused bool
}

// candidate is the redis node that is to be started.
type candidate struct {
	Name  string
	Empty bool // it has no data on disk
	// Booted is true once the stack has had its first boot.
	Booted bool
	// Dead is how long the node has been known to be dead; 0 at the first decision.
	Dead time.Duration
	// HoldBack is how long a dead master waits for the Sentinels to replace it.
	HoldBack time.Duration
	// MasterFirst is how long a replica waits for the named master to reply. NewestFirst is how
	// long it waits for Newest, another replica, to be in step with the master: at a cold start
	// the Sentinels cannot tell which replica has the newest data.
	MasterFirst, NewestFirst time.Duration
	Newest                   string
}

// decide returns the role in which a redis node starts, or why it has to wait.
func decide(c candidate, f redisFacts) startDecision {
	if f.Sentinels == 0 {
		return decideAlone(c, f)
	}

	address, _, err := f.master()
	if err != nil {
		return startDecision{Wait: err.Error()}
	}

	name := f.nameOf(address)
	switch {
	case name == "":
		return startDecision{Refused: true, Wait: fmt.Sprintf("the Sentinels name %s master, where no node of this stack listens; somebody else has told them so ('SENTINEL MONITOR'?)", address)}
	case name != c.Name && c.Booted && c.Empty && !f.Standings[name].Master:
		// The Sentinels could promote it empty, also beside a replica with data: after a start the
		// offsets that they compare are all 0. When the data of all nodes is gone, for example
		// because a disk was not mounted, the stack must not go on without it.
		return startDecision{Wait: "its data directory is empty, and the master is not there to fill it"}
	case name != c.Name && c.Dead < c.MasterFirst && !f.answers(name):
		return startDecision{Wait: "it waits for " + name + ", which was the master and has the newest data"}
	case name != c.Name && c.Dead < c.NewestFirst && !f.Standings[c.Newest].Linked:
		return startDecision{Wait: "it waits for " + c.Newest + ", which has newer data, to be in step with the master"}
	case name != c.Name:
		return startDecision{Replica: address}
	case !c.Booted:
		return startDecision{Master: true}
	case c.Empty:
		return startDecision{Refused: true, Wait: "its data directory is empty, but the Sentinels name it master: started so it would wipe its replicas. It waits until another node is promoted; restore its data, or start the other redis nodes"}
	case f.otherMaster(c.Name) != "":
		// The Sentinel that led that node's promotion may be the one that is away.
		return startDecision{Wait: f.otherMaster(c.Name) + " calls itself master, and the Sentinels that answer do not know yet"}
	case f.noOtherRuns(c.Name):
		// A cold start: no other node runs that could be promoted.
		return startDecision{Master: true}
	case f.failing():
		return startDecision{Wait: "a failover is under way"}
	case c.Dead < c.HoldBack:
		return startDecision{Wait: fmt.Sprintf("it was the master: held back for up to %v while the Sentinels promote a replica", c.HoldBack)}
	}
	return startDecision{Master: true}
}

// decideAlone is decide for a stack without Sentinels, whose master stays the same.
func decideAlone(c candidate, f redisFacts) startDecision {
	if c.Name != f.Appointed {
		return startDecision{Replica: f.Nodes[f.Appointed]}
	}
	if c.Booted && c.Empty {
		return startDecision{Refused: true, Wait: "its data directory is empty, but it is the master: started so it would wipe its replicas. Restore its data, or take the stack down and up again: another node with data is then the master. If all data is gone, 'down --purge' begins anew"}
	}
	return startDecision{Master: true}
}

// deadlocked returns the node to promote when the stack is in a known deadlock: all Sentinels
// that reply name one master, that node calls itself a replica, no node calls itself a master,
// and no failover is under way. Sentinel does not leave this state by itself when no replica is
// left that it would promote.
func deadlocked(f redisFacts) (node string, yes bool) {
	if len(f.Views) <= f.Sentinels/2 || f.failing() || f.Sentinels == 0 {
		return "", false
	}

	for _, v := range f.Views {
		if v.Address != f.Views[0].Address {
			return "", false
		}
	}

	for _, s := range f.Standings {
		if s.Master {
			return "", false
		}
	}

	node = f.nameOf(f.Views[0].Address)
	named, answers := f.Standings[node]
	if !answers {
		return "", false
	}
	// Only the node with the most data may be promoted.
	for _, s := range f.Standings {
		if s.Offset > named.Offset {
			return "", false
		}
	}
	return node, true
}

// hungNodes returns the redis nodes that run, do not reply, and are not the master that the
// Sentinels name. Each was replaced while it was busy or hung, or is a replica that hangs. A new
// process is to take its place and follow the master. Replacing the master itself is left to the
// Sentinels.
func hungNodes(f redisFacts) (nodes []string) {
	address, _, err := f.master()
	master := f.nameOf(address)
	if err != nil || master == "" || f.failing() || !f.Standings[master].Master {
		return nil
	}

	for _, name := range slices.Sorted(maps.Keys(f.Running)) {
		if !f.answers(name) && !f.RepliedWithError[name] && name != master {
			nodes = append(nodes, name)
		}
	}
	return nodes
}

// mostBehind is how many bytes a replica may lack when a switchover begins: about what it
// receives within a tenth of a second.
const mostBehind = 8 << 20

// hardlyBehind is how many bytes a replica may lack and still be chosen before one that has
// more.
const hardlyBehind = 256 << 10

// chooseSuccessor returns the master and the redis node that is to take its place. That is "to",
// the one asked for, or else the replica with the most data, if possible one whose clock is
// right. In pods it is the replica with the lowest number among those that are hardly behind
// that one: Kubernetes ends the pods with the highest numbers first, when it removes some and
// when it replaces all.
func chooseSuccessor(f redisFacts, to string) (from, heir string, err error) {
	address, _, err := f.master()
	from = f.nameOf(address)
	switch {
	case f.Sentinels == 0:
		return "", "", refused("the stack has no Sentinels (redis.sentinels: 0): its master is always the same")
	case err != nil:
		return "", "", refused("it is not known who is the master: %v", err)
	case f.failing():
		return "", "", refused("a failover is under way")
	case from == "" || !f.Standings[from].Master:
		return "", "", refused("the Sentinels name %s master, and it does not say so itself", address)
	case to == from:
		return "", "", refused("%s is the master already", to)
	}

	var fit []string
	why := map[string]string{}
	for name := range f.Nodes {
		st, answers := f.Standings[name]
		lacks := f.Standings[from].Offset - st.Offset
		switch {
		case name == from:
			continue
		case !answers:
			why[name] = "it does not answer"
		case st.Master:
			return "", "", refused("both %s and %s call themselves master", from, name)
		case st.MasterAddress != address || !st.Linked:
			why[name] = "it has no connection to the master"
		case lacks > mostBehind:
			why[name] = fmt.Sprintf("it lacks %d MiB of the master's data", lacks>>20)
		default:
			fit = append(fit, name)
		}
	}

	switch {
	case to != "" && f.Nodes[to] == "":
		return "", "", refused("%s is no redis node of this stack; the replicas are %s", to, strings.Join(replicasOf(f, from), ", "))
	case to != "" && !slices.Contains(fit, to):
		return "", "", refused("%s cannot become the master: %s", to, why[to])
	case to != "":
		return from, to, nil
	case len(fit) == 0:
		reasons := []string{}
		for _, name := range slices.Sorted(maps.Keys(why)) {
			reasons = append(reasons, name+": "+why[name])
		}
		return "", "", refused("no replica can become the master (%s)", strings.Join(reasons, ", "))
	}

	// The choice costs no data: the switchover waits until its successor has all of it.
	if right := slices.DeleteFunc(slices.Clone(fit), func(name string) bool { return f.WrongClocks[name] }); len(right) > 0 {
		fit = right
	}

	most := slices.MaxFunc(slices.Sorted(slices.Values(fit)), func(a, b string) int {
		return int(f.Standings[a].Offset - f.Standings[b].Offset)
	})

	if !f.Apart {
		return from, most, nil
	}
	fit = slices.DeleteFunc(fit, func(name string) bool { return f.Standings[most].Offset-f.Standings[name].Offset > hardlyBehind })
	return from, slices.MinFunc(fit, func(a, b string) int { return plan.NodeNumber(a) - plan.NodeNumber(b) }), nil
}

// replicasOf returns the names of all redis nodes but the master, in order.
func replicasOf(f redisFacts, master string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		if name != master {
			names = append(names, name)
		}
	}
	return names
}
