package plan

import (
	"fmt"
	"maps"
	"net"
	"slices"

	"holdfast/internal/stack"
)

// Step is one thing that a change does to one node.
type Step struct {
	Node   string `json:"node"`
	Action Action `json:"action"`
	// Group numbers the steps that belong together: steps of one group begin at once, and the next
	// group follows when all of them are done.
	Group int `json:"group"`
	// Late is true for the second part of a Set, which takes rights away.
	Late bool `json:"late,omitempty"`
	// Gone are the nodes that a Sentinel forgets in a Forget.
	Gone []string `json:"gone,omitempty"`
}

// Steps returns the steps of a change, in order. New nodes come first and leaving nodes last, so that
// a balancer never sends requests to a node that does not run.
//  1. If the master leaves or moves, another redis node becomes the master.
//  2. Redis and the Sentinels take what they can while they run; so new programs have their users.
//  3. New redis nodes start one by one, and then new Sentinels.
//  4. New nodes of applications start. The first node of each starts alone: if it is not well,
//     the others do not follow.
//  5. Nodes of applications that move restart at their new address. Nodes that are one too many,
//     because their application keeps fewer of them, leave.
//  6. The balancers take up their new configuration, one after the other.
//  7. The virtual address: first the hosts that no longer have it, then those that keep it, then
//     new ones.
//  8. The other nodes of applications restart.
//  9. Balancers that have to restart do so, and balancers that go stop.
//  10. Nodes of applications that are gone stop: no balancer knows them any more.
//  11. Sentinels and redis nodes restart one by one. (Package supervise puts the master last.)
//  12. Redis nodes that go stop, and then Sentinels that go: no client knows them any more. The
//     Sentinels that stay forget them, one after the other.
//  13. Redis and the Sentinels lose the users of programs that are gone.
//
// forced are nodes that restart although nothing about them has changed. master is the redis node
// that is the master now; empty: unknown.
func Steps(changes []NodeChange, now stack.Stack, forced []string, master string) []Step {
	o := order{stack: now}
	for i, c := range changes {
		if slices.Contains(forced, c.Node) && (c.Action == Untouched || c.Action == Set) {
			changes = slices.Clone(changes)
			changes[i].Action, changes[i].Settings = Restart, nil
		}
	}

	of := func(fits func(c NodeChange) bool) []NodeChange {
		return slices.DeleteFunc(slices.Clone(changes), func(c NodeChange) bool { return !fits(c) })
	}

	is := func(a Action, kinds ...Kind) func(NodeChange) bool {
		return func(c NodeChange) bool { return c.Action == a && slices.Contains(kinds, c.Kind) }
	}

	stays := func(c NodeChange) bool { _, there := now.Apps[c.App]; return there }

	for _, c := range of(func(c NodeChange) bool { return c.Kind == Redis && c.Node == master && c.freesAddress() }) {
		o.add(Step{Node: c.Node, Action: HandOver})
		o.nextGroup()
	}

	o.addSettings(of(is(Set, Sentinel)))
	// The first replica comes before its master starts to need a replica for every write.
	alone := len(of(func(c NodeChange) bool { return c.Kind == Redis && c.Action != Start })) == 1
	if !alone {
		o.addSettings(of(is(Set, Redis)))
	}

	o.addEach(of(is(Start, Redis)))
	if alone {
		o.addSettings(of(is(Set, Redis)))
	}

	o.addEach(of(is(Start, Sentinel)))
	o.addStarts(of(is(Start, Web)))
	o.addRestarts(of(func(c NodeChange) bool { return is(Restart, Web)(c) && c.Moves() }))
	o.addEach(of(func(c NodeChange) bool { return is(Stop, Web)(c) && stays(c) }))
	o.addEach(of(is(Reload, Balancer)))
	o.addEach(of(is(Start, Balancer)))
	// A host that loses the address gives it away while the others still listen to it. Then the
	// others learn which hosts to listen to, before the new hosts speak.
	o.addEach(of(is(Stop, Keepalived)))
	o.addEach(of(is(Restart, Keepalived)))
	o.addEach(of(is(Start, Keepalived)))
	o.addRestarts(of(func(c NodeChange) bool { return is(Restart, Web)(c) && !c.Moves() }))
	o.addEach(of(is(Restart, Balancer)))
	o.addEach(of(is(Stop, Balancer)))
	o.addEach(of(func(c NodeChange) bool { return is(Stop, Web)(c) && !stays(c) }))
	o.addEach(of(is(Restart, Sentinel)))
	o.addEach(of(is(Restart, Redis)))
	o.addLeaving(changes, of(is(Stop, Redis)), of(is(Stop, Sentinel)))
	for _, c := range of(is(Set, Sentinel, Redis)) {
		if len(c.Settings.Gone) > 0 {
			o.add(Step{Node: c.Node, Action: Set, Late: true})
		}
		o.nextGroup()
	}
	return o.steps
}

// freesAddress reports whether the node's address is unused after the change.
func (c NodeChange) freesAddress() bool { return c.Action == Stop || c.Moves() }

// addLeaving adds the redis nodes and Sentinels that go, the highest numbers first, and the steps
// in which the remaining Sentinels forget them. Each Sentinel is forgotten before the next one
// goes, because dead Sentinels still count for the majority that a failover needs. A Sentinel that
// moves tells the others itself.
func (o *order) addLeaving(changes, redis, sentinels []NodeChange) {
	var gone []string
	for _, c := range slices.Backward(redis) {
		o.add(Step{Node: c.Node, Action: c.Action})
		o.nextGroup()
		gone = append(gone, c.Node)
	}
	for _, c := range changes {
		if c.Kind == Redis && c.Moves() {
			gone = append(gone, c.Node)
		}
	}
	slices.Sort(gone)
	o.addForgets(changes, gone)
	for _, c := range slices.Backward(sentinels) {
		o.add(Step{Node: c.Node, Action: c.Action})
		o.nextGroup()
		o.addForgets(changes, []string{c.Node})
	}
}

// addForgets adds the steps in which the remaining Sentinels forget nodes.
func (o *order) addForgets(changes []NodeChange, gone []string) {
	for _, s := range Forgets(changes, gone) {
		o.add(s)
		o.nextGroup()
	}
}

// Forgets returns the steps in which the Sentinels that stay forget nodes, one after the other.
func Forgets(changes []NodeChange, gone []string) (steps []Step) {
	for _, c := range changes {
		if c.Kind == Sentinel && c.Action != Stop && len(gone) > 0 {
			steps = append(steps, Step{Node: c.Node, Action: Forget, Group: len(steps), Gone: gone})
		}
	}
	return steps
}

// order builds steps.
type order struct {
	stack stack.Stack
	steps []Step
	group int
	used  bool // the group has a step
}

func (o *order) add(s Step) {
	if s.Group = o.group; s.Node != "" {
		o.steps, o.used = append(o.steps, s), true
	}
}

func (o *order) nextGroup() {
	if o.used {
		o.group++
		o.used = false
	}
}

// addSettings adds the settings that nodes take while they run, one node after the other.
func (o *order) addSettings(changes []NodeChange) {
	for _, c := range changes {
		if len(c.Settings.Config)+len(c.Settings.Users) > 0 {
			o.add(Step{Node: c.Node, Action: Set})
		}
		o.nextGroup()
	}
}

// addEach adds steps that follow one another.
func (o *order) addEach(changes []NodeChange) {
	for _, c := range changes {
		o.add(Step{Node: c.Node, Action: c.Action})
		o.nextGroup()
	}
}

// addStarts adds new nodes: the first of each application, then the others.
func (o *order) addStarts(changes []NodeChange) {
	var others []NodeChange
	seen := map[string]bool{}
	for _, c := range changes {
		if seen[c.App] {
			others = append(others, c)
			continue
		}
		seen[c.App] = true
		o.add(Step{Node: c.Node, Action: c.Action})
	}
	o.nextGroup()
	for _, c := range others {
		o.add(Step{Node: c.Node, Action: c.Action})
	}
	o.nextGroup()
}

// addRestarts adds nodes that restart: the first of each application alone, then as many at once as
// the stack allows, but never more than half of the application's nodes.
func (o *order) addRestarts(changes []NodeChange) {
	var app string
	n := 0
	for _, c := range changes {
		most := max(1, min(o.stack.Rollout.Parallel, o.stack.Apps[c.App].Nodes/2))
		if c.App != app {
			o.nextGroup()
			app, n = c.App, 0
		}
		o.add(Step{Node: c.Node, Action: c.Action})
		if n++; n == 1 || (n-1)%most == 0 {
			o.nextGroup()
		}
	}
	o.nextGroup()
}

// Refusals returns the reasons why a change cannot be made while the stack runs, one text each.
func Refusals(old, now stack.Stack, changes []NodeChange) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if old.Name != now.Name {
		add("name: the stack is called %s, and its state directory and its Sentinels have that name; take it down, and start the other one", old.Name)
	}
	if old.Entry.Listen != now.Entry.Listen && !widens(old.Entry.Listen, now) {
		add("entry.listen: the clients at %s would be refused from one moment to the other; take the stack down, and up again", old.Entry.Listen)
	}
	if is := now.Entry.TLS.Enabled(); old.Entry.TLS.Enabled() != is {
		add("entry.tls: the clients at %s speak %s, and would be refused from one moment to the other; take the stack down, and up again: the data stays", old.Entry.Listen, map[bool]string{true: "HTTP", false: "HTTPS"}[is])
	}

	for _, was := range old.TCP {
		for _, is := range now.TCP {
			if was.Listen == is.Listen && was.TLS.Enabled() != is.TLS.Enabled() {
				add("tcp.tls: the clients at %s speak %s, and would be refused from one moment to the other; write another address for the new ones, or take the stack down, and up again: the data stays", was.Listen, map[bool]string{true: "in plain", false: "TLS"}[is.TLS.Enabled()])
			}
		}
	}

	for _, name := range slices.Sorted(maps.Keys(old.Apps)) {
		was := old.Apps[name]
		is, stays := now.Apps[name]
		// A node that is checked by HTTP can be asked before the change whether it understands it.
		asked := is.Health.Path != "" && !is.Kind().Elsewhere()
		if stays && was.SendProxy != is.SendProxy && !asked {
			add("apps.%s.send-proxy: the program as it runs now would not understand the balancers from one moment to the other; have an application of another name take its place (routes, tcp), or take the stack down, and up again: the data stays", name)
		}
	}

	if len(old.Hosts) > 0 && len(now.Hosts) > 0 && old.Encrypts() != now.Encrypts() {
		add("network: nodes that speak TLS and nodes that do not cannot reach each other while one after the other changes; take the stack down, and up again: the data stays")
	}
	if old.Redis.Enabled != now.Redis.Enabled {
		add("redis.enabled: what needs Redis would be without it for a while; take the stack down, and up again")
		return all // the rest follows from it
	}

	was, is := old.Redis, now.Redis
	switch {
	case was.Replicas > 0 && is.Replicas == 0:
		add("redis.replicas: the last replica cannot go while the stack runs: a write counts only when a replica has it; take the stack down, and up again: the data stays")
	case was.Sentinels > 0 && is.Sentinels == 0, was.Sentinels == 0 && is.Sentinels > 0:
		add("redis.sentinels: from %d to %d: nobody would fail over meanwhile; take the stack down, and up again: the data stays", was.Sentinels, is.Sentinels)
	case was.Sentinels > 1 && is.Sentinels == 1:
		add("redis.sentinels: the last but one cannot go while the stack runs: until it is forgotten the other one has no majority; write 3, or take the stack down, and up again: the data stays")
	}

	for _, c := range changes {
		if other := movesInto(c, changes); other != "" {
			add("%s would move from %s to %s, where %s listens, and two nodes cannot exchange their addresses while they run: give it a port that no node has, or take the stack down ('holdfast down'), then up; the data stays", c.Node, c.From, c.To, other)
		}
	}
	return all
}

// movesInto returns the node whose old address becomes the address of the node in c, if one of the
// two is known by its address; empty: there is no such node.
func movesInto(c NodeChange, changes []NodeChange) string {
	for _, o := range changes {
		if c.Moves() && o.From == c.To && (c.Kind.Traits().KnownByAddress || o.Kind.Traits().KnownByAddress) {
			return o.Node
		}
	}
	return ""
}

// widens reports whether the balancers of a stack with hosts also listen where they did before, at
// the loopback address (see entryListen).
func widens(old string, now stack.Stack) bool {
	is, port, _ := net.SplitHostPort(now.Entry.Listen)
	if len(now.Hosts) == 0 || now.OneMachine() {
		return false
	}
	switch is {
	case "", "*", "0.0.0.0":
		return old == net.JoinHostPort("127.0.0.1", port)
	case "::":
		return old == net.JoinHostPort("::1", port)
	}
	return false
}
