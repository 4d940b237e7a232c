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

// A node of a stack of several hosts moves to another host in a change: it ends where it
// is, and begins where it is to be. A redis node gets its data from the master there.

// relocates reports whether the step moves the node to another host.
func (x *stepper) relocates() bool {
	// Without several machines the hosts share a directory, and another address is all.
	return x.sup.cfg.Several && x.had && x.from.host != x.to.host
}

// relocate moves the node to another host.
func (x *stepper) relocate(ctx context.Context) error {
	s, name := x.sup, x.step.Node
	if member(x.from.process) {
		if err := x.leave(ctx); err != nil {
			return err
		}
	}
	if err := x.spare(ctx); err != nil {
		return err
	}
	if x.to.process.Kind == plan.Web {
		s.awaitOldWorkers(ctx)
	}
	st, _ := s.board.snapshot().Node(name)
	x.touched = true
	if err := x.takeAway(ctx); err != nil {
		return err
	}
	// What is there of the node is from before it was elsewhere.
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
	// A supervisor that looks for data must not find what is out of date.
	if err := s.hosts.at(x.from.host).Remove(ctx, inHome(name)); err != nil {
		x.log.Warn("what the node has left on its former host stays there", "host", x.from.host, "error", err)
	}
	return nil
}

// settleDown has the stack have a node that its operator has stopped, and does not start it.
func (x *stepper) settleDown(ctx context.Context) error {
	s := x.sup
	if ofRedis(x.step.Node) {
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

// moveBack has a node that does not become well on its new host be where it was.
func (x *stepper) moveBack(ctx context.Context) error {
	if err := x.takeAway(ctx); err != nil {
		return err
	}
	back := *x
	back.to, back.from, back.had = x.from, part{}, false
	if err := back.start(ctx); err != nil {
		return err
	}
	if member(x.from.process) && len(x.sup.departed()) > 0 {
		return x.sup.forgetAll(ctx)
	}
	return nil
}

// staying returns where nodes are now that are to be so for a while yet. The one host of a
// stack without hosts has become the one that the next plan has.
func (l layout) staying(nodes []string, next []plan.Place) map[string]plan.Place {
	all := map[string]plan.Place{}
	for _, name := range nodes {
		p, there := l.part(name)
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

// withHosts is a plan that has the hosts of the next one as well, in its order. The one host
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

// withoutEmpty is a plan without the hosts that have no node and that another plan does not
// have.
func withoutEmpty(p plan.Plan, but plan.Plan) []plan.Host {
	return slices.DeleteFunc(slices.Clone(p.Hosts), func(h plan.Host) bool {
		return len(h.Processes) == 0 && !slices.ContainsFunc(but.Hosts, func(b plan.Host) bool { return b.Name == h.Name })
	})
}

// newHostLimit is how long a change waits for a host that has just joined to answer.
const newHostLimit = 10 * time.Second

// checkNewHosts are the reasons why nodes cannot be placed on hosts that the stack did not
// have: they have not joined, or are away.
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

// newHosts are the names of the hosts that a stack has and another one had not.
func newHosts(now, final layout) (names []string) {
	for _, h := range final.file.Hosts {
		if !slices.ContainsFunc(now.file.Hosts, func(o stack.Host) bool { return o.Name == h.Name }) {
			names = append(names, h.Name)
		}
	}
	return names
}
