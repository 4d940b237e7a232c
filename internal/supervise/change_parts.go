package supervise

import (
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// changePart is one part of a change. Each part leads to a complete stack, whose files say what
// runs then. So the nodes come up right even if something dies in the middle of the change.
type changePart struct {
	to    layout
	steps []plan.Step
}

// maxChangeParts limits the number of parts. Each part moves a node, or is the first or the last.
const maxChangeParts = 1000

// changeParts returns the way from what runs to what is to run. First, the applications whose nodes
// are restarted get additional nodes (rollout.surge). Then everything except addresses changes.
// Then the nodes that get another address move, one after the other. At the end the additional
// nodes go. A change that needs none of that has one part. In the last part, the Sentinels also
// forget nodes that an earlier change did not get them to forget.
func (s *Supervisor) changeParts(now, final layout, force []string) ([]changePart, error) {
	var all []changePart
	master := s.lastSeenMaster()
	gone := s.departed()
	for range maxChangeParts {
		to, last, err := s.nextLayout(now, final, force)
		if err != nil {
			return nil, err
		}
		changes := plan.Diff(now.host(), to.host(), nil)
		steps := plan.Steps(changes, to.stack(), force, master)
		force = nil
		if last && !slices.ContainsFunc(steps, func(s plan.Step) bool { return s.Action == plan.Forget }) {
			steps = append(steps, renumberAfter(steps, plan.Forgets(changes, gone))...)
		}
		if len(steps) > 0 || last {
			all = append(all, changePart{to, steps})
		}
		if last {
			return all, nil
		}
		now = to
	}
	return nil, fmt.Errorf("the change has more than %d parts", maxChangeParts)
}

// renumberAfter renumbers the groups of steps so that they follow the groups of before.
func renumberAfter(before, steps []plan.Step) []plan.Step {
	first := 0
	if len(before) > 0 {
		first = before[len(before)-1].Group + 1
	}
	for i := range steps {
		steps[i].Group += first
	}
	return steps
}

// nextLayout returns the next complete stack on the way, and reports whether it is the last.
func (s *Supervisor) nextLayout(now, final layout, force []string) (to layout, last bool, err error) {
	changes := plan.Diff(now.host(), final.host(), nil)
	extra := s.surges(changes, final.stack(), force)
	moving := s.movingNodes(changes)
	if len(extra) == 0 && len(moving) == 0 {
		return final, true, nil
	}
	for _, moved := range []int{0, 1} {
		stay := moving[min(moved, len(moving)):]
		of := withPorts(final.stack().WithNodes(extra), now, stay)
		next := final
		next.stay = now.staying(stay, plan.HostsOf(of))
		if to, err = s.planned(next, of); err != nil {
			return to, false, err
		}
		steps := plan.Steps(plan.Diff(now.host(), to.host(), nil), of, force, "")
		if len(steps) > 0 && len(plan.Refusals(now.stack(), of, nil)) == 0 {
			return to, false, nil
		}
		if len(moving) == 0 {
			break
		}
	}
	return final, true, nil
}

// surges returns how many nodes applications get during the change, by application. An
// application that is served by a single node always gets one more.
func (s *Supervisor) surges(changes []plan.NodeChange, final stack.Stack, force []string) map[string]int {
	extra := map[string]int{}
	for _, c := range changes {
		app, there := final.Apps[c.App]
		anew := c.Action == plan.Restart || slices.Contains(force, c.Node) && c.Action != plan.Stop
		if c.Kind != plan.Web || !there || !anew {
			continue
		}
		n := final.Rollout.Surge
		if app.Nodes == 1 || s.isOnlyServing(c, changes) {
			n = max(1, n)
		}
		if n > 0 {
			extra[c.App] = app.Nodes + n
		}
	}
	return extra
}

// isOnlyServing reports whether no other node of an application would serve while this one is
// restarted. Either it is the only one that serves, or an interrupted change has stopped it,
// and only a node that will be removed serves meanwhile.
func (s *Supervisor) isOnlyServing(c plan.NodeChange, changes []plan.NodeChange) bool {
	stay, leave := 0, 0
	for _, o := range changes {
		switch {
		case o.App != c.App || !s.serves(o.Node):
		case o.Action == plan.Stop:
			leave++
		default:
			stay++
		}
	}
	return stay == 1 && s.serves(c.Node) || stay == 0 && leave > 0
}

// movingNodes returns the nodes that get another address: those of applications, then
// Sentinels, then redis nodes, with the master last.
func (s *Supervisor) movingNodes(changes []plan.NodeChange) (names []string) {
	for _, kind := range []plan.Kind{plan.Web, plan.Sentinel, plan.Redis} {
		for _, c := range changes {
			if c.Kind == kind && c.Action == plan.Restart && c.Moves() {
				names = append(names, c.Node)
			}
		}
	}
	master := s.lastSeenMaster()
	if i := slices.Index(names, master); i >= 0 {
		names = append(slices.Delete(names, i, i+1), master)
	}
	return names
}

// withPorts returns a stack in which the given nodes keep the ports that they have now.
func withPorts(s stack.Stack, now layout, nodes []string) stack.Stack {
	s.Apps = maps.Clone(s.Apps)
	for _, name := range nodes {
		p, there := now.nodePlan(name)
		if !there {
			continue
		}
		_, port := splitAddress(p.process.Address)
		number := plan.NodeNumber(name)
		if number < 1 {
			continue
		}
		switch p.process.Kind {
		case plan.Redis:
			s.Redis.Ports = withPort(s.Redis.Ports, number, atoi(port))
		case plan.Sentinel:
			s.Redis.SentinelPorts = withPort(s.Redis.SentinelPorts, number, atoi(port))
		default:
			app := s.Apps[p.process.App]
			app.Ports = withPort(app.Ports, number, atoi(port))
			s.Apps[p.process.App] = app
		}
	}
	return s
}

// withPort returns a list of ports with another one for the node with a number.
func withPort(ports []int, number, port int) []int {
	ports = slices.Clone(ports)
	for len(ports) < number {
		ports = append(ports, 0)
	}
	ports[number-1] = port
	return ports
}

// merged returns a new map with the entries of both maps; those of more win.
func merged[K comparable, V any](m, more map[K]V) map[K]V {
	all := map[K]V{}
	maps.Copy(all, m)
	maps.Copy(all, more)
	return all
}
