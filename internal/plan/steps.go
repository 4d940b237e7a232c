package plan

import (
	"fmt"
	"slices"

	"holdfast/internal/stack"
)

// Step is one thing that a change does to one node.
type Step struct {
	Node   string `json:"node"`
	Action Action `json:"action"`
	// Group numbers what goes together: steps of one group begin at once, and the
	// next group follows when all of them are done.
	Group int `json:"group"`
	// Late is true for the second part of a Set, which takes rights away.
	Late bool `json:"late,omitempty"`
}

// Steps is the order in which a change is made. What comes goes first, and what goes
// comes last: a balancer sends nobody to a node that is not there yet, or no more.
//  1. Redis and Sentinels take what they can while they run: new programs have users.
//  2. New nodes start, the first of each application alone: if it is not well, the
//     others do not follow.
//  3. Nodes that move, and nodes of an application that keeps others, leave.
//  4. The balancers take up their new configuration, one after the other.
//  5. The nodes of applications are started anew.
//  6. Balancers that have to be started anew, and those that go.
//  7. The nodes of applications that go: no balancer knows them any more.
//  8. Sentinels, Redis: each alone. (Package supervise puts the master last.)
//  9. Redis and Sentinels lose the users of programs that are gone.
//
// forced are nodes that are started anew although nothing about them has changed.
func Steps(changes []NodeChange, now stack.Stack, forced []string) []Step {
	o := order{stack: now}
	of := func(fits func(c NodeChange) bool) []NodeChange {
		return slices.DeleteFunc(slices.Clone(changes), func(c NodeChange) bool { return !fits(c) })
	}
	is := func(a Action, kinds ...Kind) func(NodeChange) bool {
		return func(c NodeChange) bool { return c.Action == a && slices.Contains(kinds, c.Kind) }
	}
	for i, c := range changes {
		if slices.Contains(forced, c.Node) && (c.Action == Untouched || c.Action == Set) {
			changes = slices.Clone(changes)
			changes[i].Action, changes[i].Settings = Restart, nil
		}
	}
	stays := func(c NodeChange) bool { _, there := now.Apps[c.App]; return there }

	for _, c := range of(is(Set, Sentinel, Redis)) {
		if len(c.Settings.Config)+len(c.Settings.Users) > 0 {
			o.add(Step{Node: c.Node, Action: Set})
		}
		o.next()
	}
	o.starts(of(is(Start, Sentinel, Redis)))
	o.starts(of(is(Start, Web)))
	o.restarts(of(func(c NodeChange) bool { return is(Restart, Web)(c) && c.Moves() }))
	o.each(of(func(c NodeChange) bool { return is(Stop, Web)(c) && stays(c) }))
	o.each(of(is(Reload, Balancer)))
	o.each(of(is(Start, Balancer)))
	o.restarts(of(func(c NodeChange) bool { return is(Restart, Web)(c) && !c.Moves() }))
	o.each(of(is(Restart, Balancer)))
	o.each(of(is(Stop, Balancer)))
	o.each(of(func(c NodeChange) bool { return is(Stop, Web)(c) && !stays(c) }))
	o.each(of(is(Restart, Sentinel)))
	o.each(of(is(Restart, Redis)))
	o.each(of(is(Stop, Redis)))
	o.each(of(is(Stop, Sentinel)))
	for _, c := range of(is(Set, Sentinel, Redis)) {
		if len(c.Settings.Gone) > 0 {
			o.add(Step{Node: c.Node, Action: Set, Late: true})
		}
		o.next()
	}
	return o.steps
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

func (o *order) next() {
	if o.used {
		o.group++
		o.used = false
	}
}

// each adds steps that follow each other.
func (o *order) each(changes []NodeChange) {
	for _, c := range changes {
		o.add(Step{Node: c.Node, Action: c.Action})
		o.next()
	}
}

// starts adds nodes that come: the first of each application, then the others.
func (o *order) starts(changes []NodeChange) {
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
	o.next()
	for _, c := range others {
		o.add(Step{Node: c.Node, Action: c.Action})
	}
	o.next()
}

// restarts adds nodes that are started anew: the first of each application alone,
// then so many at once as the stack allows, and never more than half of them.
func (o *order) restarts(changes []NodeChange) {
	var app string
	n := 0
	for _, c := range changes {
		most := max(1, min(o.stack.Rollout.Parallel, o.stack.Apps[c.App].Nodes/2))
		if c.App != app {
			o.next()
			app, n = c.App, 0
		}
		o.add(Step{Node: c.Node, Action: c.Action})
		if n++; n == 1 || (n-1)%most == 0 {
			o.next()
		}
	}
	o.next()
}

// Refusals are what a change cannot do while the stack runs, and why: one text each.
func Refusals(old, now stack.Stack, changes []NodeChange) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if old.Name != now.Name {
		add("name: the stack is called %s, and its state directory and its Sentinels have that name; take it down, and start the other one", old.Name)
	}
	if old.Entry.Listen != now.Entry.Listen {
		add("entry.listen: the clients at %s would be refused from one moment to the other; take the stack down, and up again", old.Entry.Listen)
	}
	if old.Redis.Enabled != now.Redis.Enabled {
		add("redis.enabled: what needs Redis would be without it for a while; take the stack down, and up again")
		return all // the rest follows from it
	}
	counts := false
	for _, c := range changes {
		if c.Kind != Redis && c.Kind != Sentinel {
			continue
		}
		switch {
		case c.Action == Start, c.Action == Stop:
			counts = true
		case c.Moves():
			add("%s: it cannot move while Redis and its Sentinels run; take the stack down, and up again: the data stays", c.Node)
		}
	}
	if counts {
		add("redis.replicas, redis.sentinels: their number cannot change while the stack runs; take the stack down, and up again: the data stays")
	}
	return all
}
