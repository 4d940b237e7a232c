package supervise

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// In a change, a node of a stack of several hosts can move to another host: its process ends
// there, and a new one starts here. A redis node copies its data from the master.

// relocates reports whether the step moves the node to another host.
func (x *stepper) relocates() bool {
	// Without several machines, hosts share one directory, so only the address differs.
	return x.sup.cfg.Several && x.had && x.from.host != x.to.host
}

// relocate moves the node to another host.
func (x *stepper) relocate(ctx context.Context) error {
	s, name := x.sup, x.step.Node
	if knownByAddress(x.from.process) {
		if err := x.leave(ctx); err != nil {
			return err
		}
	}
	if err := x.requireOtherServing(ctx); err != nil {
		return err
	}
	if x.to.process.Kind == plan.Web {
		s.awaitOldWorkers(ctx)
	}
	st, _ := s.statusBoard.snapshot().Node(name)
	x.touched = true
	if err := x.takeAway(ctx); err != nil {
		return err
	}
	// What the new host has of the node is from before the node left that host.
	if err := s.hosts.at(x.to.host).Remove(ctx, inHome(name)); err != nil {
		return err
	}
	if st.State == Down {
		if err := x.settleDown(ctx); err != nil {
			return err
		}
	} else if err := x.start(ctx); err != nil {
		return err
	}
	// A supervisor that looks for data must not find outdated data.
	if err := s.hosts.at(x.from.host).Remove(ctx, inHome(name)); err != nil {
		x.log.Warn("what the node has left on its former host stays there", "host", x.from.host, "error", err)
	}
	return nil
}

// settleDown adds a node that its operator has stopped to the stack, and does not start it.
func (x *stepper) settleDown(ctx context.Context) error {
	s := x.sup
	if isRedisOrSentinel(x.step.Node) {
		if err := s.noteAddress(x.step.Node, x.to.process.Address); err != nil {
			return err
		}
	}
	if err := s.putNode(x.to); err != nil {
		return err
	}
	n := s.addNode(x.to.process)
	s.showLayout()
	s.tasks.Go(func() { n.run(s.ctx) })
	return s.send(ctx, x.step.Node, command{action: ActStop})
}

// moveBack returns a node that does not become healthy on its new host to its former host.
func (x *stepper) moveBack(ctx context.Context) error {
	if err := x.takeAway(ctx); err != nil {
		return err
	}
	back := *x
	back.to, back.from, back.had = x.from, nodePlan{}, false
	if err := back.start(ctx); err != nil {
		return err
	}
	if knownByAddress(x.from.process) && len(x.sup.departed()) > 0 {
		return x.sup.forgetAll(ctx)
	}
	return nil
}

// staying returns the places of nodes that keep their place for now. If the stack has had no
// hosts so far, its one host is the first of the next plan.
func (l layout) staying(nodes []string, next []plan.Place) map[string]plan.Place {
	all := map[string]plan.Place{}
	for _, name := range nodes {
		p, there := l.nodePlan(name)
		address, _, err := net.SplitHostPort(p.process.Address)
		if !there || err != nil {
			continue
		}
		host := p.host
		if host == plan.Local && len(next) > 0 {
			host = next[0].Name
		}
		all[name] = plan.Place{Name: host, Address: address}
	}
	return all
}

// withHosts returns a plan that also has the hosts of the next plan, in its order. The one host
// of a stack without hosts becomes the first of them.
func withHosts(p, next plan.Plan) plan.Plan {
	was := slices.Clone(p.Hosts)
	if len(was) == 1 && was[0].Name == plan.Local && len(next.Hosts) > 0 {
		was[0].Name = next.Hosts[0].Name
	}
	p.Hosts = nil
	for _, h := range next.Hosts {
		now := plan.Host{Name: h.Name, Address: h.Address, Dirs: []string{"logs", "nodes"}}
		if i := slices.IndexFunc(was, func(w plan.Host) bool { return w.Name == h.Name }); i >= 0 {
			now = was[i]
			now.Address = h.Address
			was = slices.Delete(was, i, i+1)
		}
		p.Hosts = append(p.Hosts, now)
	}
	p.Hosts = append(p.Hosts, was...)
	return p
}

// withoutEmpty returns the hosts of a plan, except those that have no node and are not in the
// other plan.
func withoutEmpty(p plan.Plan, but plan.Plan) []plan.Host {
	return slices.DeleteFunc(slices.Clone(p.Hosts), func(h plan.Host) bool {
		return len(h.Processes) == 0 && !slices.ContainsFunc(but.Hosts, func(b plan.Host) bool { return b.Name == h.Name })
	})
}

// newHostLimit is how long a change waits for a host that has just joined to answer.
const newHostLimit = 10 * time.Second

// checkNewHosts returns why nodes cannot be placed on hosts that are new to the stack: they
// have not joined, are away, or are not ready.
func (s *Supervisor) checkNewHosts(ctx context.Context, now, final layout) (wrong []string) {
	if !s.cfg.Several {
		return nil
	}
	for _, h := range newHosts(now, final) {
		host, known := s.hosts.named[h]
		switch {
		case !known:
			wrong = append(wrong, fmt.Sprintf("hosts.%s: the host has not joined: 'holdfast host add %s' prints the line to paste there; then 'holdfast apply' gives it nodes", h, h))
		case !within(ctx, newHostLimit, memberPoll, host.Present):
			wrong = append(wrong, fmt.Sprintf("hosts.%s: the host has joined, and is away: 'holdfast up -d' there has it take part", h))
		default:
			if err := s.catchUp(ctx, host); err != nil {
				wrong = append(wrong, fmt.Sprintf("hosts.%s: the host is not ready: %v", h, err))
			}
		}
	}
	return wrong
}

// newHosts returns the names of the hosts that final has and now does not have.
func newHosts(now, final layout) (names []string) {
	for _, h := range final.file.Hosts {
		if !slices.ContainsFunc(now.file.Hosts, func(o stack.Host) bool { return o.Name == h.Name }) {
			names = append(names, h.Name)
		}
	}
	return names
}
