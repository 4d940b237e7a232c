package supervise

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// leg is a part of a change. Each leads to a whole stack of its own, whose files say
// what runs then: so whatever dies in the middle comes up right.
type leg struct {
	to    layout
	steps []plan.Step
}

// mostLegs bounds the number of legs: each moves a node, or is one of the two that
// begin and end.
const mostLegs = 1000

// legs are the way from what runs to what is to run. First all applications of which
// nodes are started anew get more nodes (rollout.surge); then everything changes but
// addresses; then one node after the other moves; then what was too much goes. A
// change that needs none of that has one leg.
func (s *Supervisor) legs(now, final layout, force []string) ([]leg, error) {
	var all []leg
	for range mostLegs {
		to, last, err := s.nextLayout(now, final, force)
		if err != nil {
			return nil, err
		}
		steps := plan.Steps(plan.Diff(now.host(), to.host(), nil), to.stack(), force)
		force = nil
		if len(steps) > 0 || last {
			all = append(all, leg{to, steps})
		}
		if last {
			return all, nil
		}
		now = to
	}
	return nil, fmt.Errorf("the change has more than %d parts", mostLegs)
}

// nextLayout is the next whole stack on the way.
func (s *Supervisor) nextLayout(now, final layout, force []string) (to layout, last bool, err error) {
	changes := plan.Diff(now.host(), final.host(), nil)
	extra := s.surges(changes, final.stack(), force)
	moving := movingNodes(changes)
	if len(extra) == 0 && len(moving) == 0 {
		return final, true, nil
	}
	for _, moved := range []int{0, 1} {
		of := withPorts(withNodes(final.stack(), extra), now, moving[min(moved, len(moving)):])
		if to, err = s.planned(final, of); err != nil {
			return to, false, err
		}
		steps := plan.Steps(plan.Diff(now.host(), to.host(), nil), of, force)
		if len(steps) > 0 && len(plan.Refusals(now.stack(), of, nil)) == 0 {
			return to, false, nil
		}
		if len(moving) == 0 {
			break
		}
	}
	return final, true, nil
}

// surges are how many nodes applications get meanwhile, by application.
func (s *Supervisor) surges(changes []plan.NodeChange, final stack.Stack, force []string) map[string]int {
	extra := map[string]int{}
	for _, c := range changes {
		app, there := final.Apps[c.App]
		anew := c.Action == plan.Restart || slices.Contains(force, c.Node) && c.Action != plan.Stop
		if c.Kind != plan.Web || !there || !anew {
			continue
		}
		n := final.Rollout.Surge
		if app.Nodes == 1 {
			n = max(1, n)
		}
		if n > 0 {
			extra[c.App] = app.Nodes + n
		}
	}
	return extra
}

// movingNodes are those that get another address, of each application in order.
func movingNodes(changes []plan.NodeChange) (names []string) {
	for _, c := range changes {
		if c.Kind == plan.Web && c.Action == plan.Restart && c.Moves() {
			names = append(names, c.Node)
		}
	}
	return names
}

// withNodes is a stack with other numbers of nodes.
func withNodes(s stack.Stack, nodes map[string]int) stack.Stack {
	s.Apps = maps.Clone(s.Apps)
	for name, n := range nodes {
		app := s.Apps[name]
		app.Nodes = n
		s.Apps[name] = app
	}
	return s
}

// withPorts is a stack in which these nodes keep the ports that they have now.
func withPorts(s stack.Stack, now layout, nodes []string) stack.Stack {
	s.Apps = maps.Clone(s.Apps)
	for _, name := range nodes {
		p, there := now.part(name)
		if !there {
			continue
		}
		app := s.Apps[p.process.App]
		i, err := strconv.Atoi(name[len(p.process.App)+1:])
		if err != nil || i < 1 {
			continue
		}
		app.Ports = slices.Clone(app.Ports)
		for len(app.Ports) < i {
			app.Ports = append(app.Ports, 0)
		}
		_, port := splitAddress(p.process.Address)
		app.Ports[i-1] = atoi(port)
		s.Apps[p.process.App] = app
	}
	return s
}

// with is a map with what another one has.
func with[K comparable, V any](m, more map[K]V) map[K]V {
	all := map[K]V{}
	maps.Copy(all, m)
	maps.Copy(all, more)
	return all
}
