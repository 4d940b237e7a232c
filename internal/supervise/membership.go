package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
)

// This file is about how redis nodes and Sentinels join, leave and move in a change. A new
// replica has to be in step before the change goes on. A node leaves only as a replica, and
// only while another node that stays has all data. The Sentinels forget nodes that have left,
// one Sentinel at a time (forget). An address is recorded when a node leaves it
// (redisMemory.Departed), so that a later supervisor can still make the Sentinels forget it.

// Time limits of these steps.
const (
	// leaveLimit is how long a node waits until it may leave. forgetLimit is how long a Sentinel
	// may take until it may forget, and then knows all current nodes again.
	leaveLimit  = 30 * time.Second
	forgetLimit = time.Minute
	// meetLimit is how long all Sentinels may take to know a new node.
	meetLimit = 30 * time.Second
	// syncLimit is how long a redis node may take to get all data.
	syncLimit = 10 * time.Minute
	// memberPoll is how often all are asked meanwhile.
	memberPoll = 100 * time.Millisecond
)

// knownByAddress reports whether a node is a redis node or a Sentinel.
func knownByAddress(p plan.Process) bool { return p.Kind.Traits().KnownByAddress }

// departed returns the nodes that the Sentinels still have to forget.
func (s *Supervisor) departed() []string {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	names := slices.Sorted(maps.Values(s.persisted.Redis.Departed))
	return slices.Compact(names)
}

// noteAddress records the address of a redis node or Sentinel from now on; empty: it has none
// any more. Sentinels have to forget the address that it leaves.
func (s *Supervisor) noteAddress(node, address string) error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	m := &s.persisted.Redis
	was := *m
	m.Addresses, m.Departed = merged(m.Addresses, nil), merged(m.Departed, nil)
	if left := m.Addresses[node]; left != "" && left != address {
		m.Departed[left] = node
	}
	delete(m.Departed, address)
	if m.Addresses[node] = address; address == "" {
		delete(m.Addresses, node)
	}
	if maps.Equal(was.Addresses, m.Addresses) && maps.Equal(was.Departed, m.Departed) {
		return nil
	}
	if err := s.saveState(); err != nil {
		*m = was
		return err
	}
	return nil
}

// noteForgotten records which addresses no Sentinel knows any more.
func (s *Supervisor) noteForgotten(a sentinelsView) error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	m := &s.persisted.Redis
	was := m.Departed
	m.Departed = merged(was, nil)
	for address := range was {
		if len(a.Known) == len(a.Peers) && !slices.ContainsFunc(slices.Sorted(maps.Keys(a.Known)), func(name string) bool {
			return slices.Contains(a.unknownAddresses(name), address)
		}) {
			delete(m.Departed, address)
		}
	}
	if len(m.Departed) == len(was) {
		return nil
	}
	if err := s.saveState(); err != nil {
		m.Departed = was
		return err
	}
	return nil
}

// begin prepares the start of a redis node or Sentinel that is new to the stack. A Sentinel's
// file is made anew, because what it knew when it was last part of the stack is out of date.
func (x *stepper) begin(ctx context.Context) error {
	s, p := x.sup, x.to.process
	if err := s.noteAddress(p.Node, p.Address); err != nil {
		return err
	}
	if p.Kind != plan.Sentinel || s.node(p.Node) != nil {
		return nil
	}
	s.noteMaster(s.gather(ctx, time.Second))
	of := x.stack
	of.Redis.Sentinels = plan.NodeNumber(p.Node) // Sentinels with higher numbers are not running yet
	// The file has the current addresses of the other nodes, because some may still have to move.
	now, _ := s.current()
	var others []string
	for _, o := range now.host().Processes {
		if knownByAddress(o) && o.Node != p.Node {
			others = append(others, o.Node)
		}
	}
	of = withPorts(of, now, others)
	placed := merged(placementOf(s.Plan()), plan.Placement{p.Node: x.to.host})
	to, err := s.planned(layout{file: of, baseDir: s.baseDir(), stay: now.staying(others, plan.HostsOf(of)), placement: placed}, of)
	if err != nil {
		return err
	}
	anew, _ := to.nodePlan(p.Node)
	x.to.files = slices.Clone(x.to.files)
	for i, f := range x.to.files {
		at := slices.IndexFunc(anew.files, func(a plan.File) bool { return a.Path == f.Path })
		if f.Once && at >= 0 {
			x.to.files[i] = anew.files[at]
			if err := s.hosts.at(x.to.host).Remove(ctx, f.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitAllKnown waits until every Sentinel knows every node, and has the quorum for the current
// number of Sentinels.
func (s *Supervisor) awaitAllKnown(ctx context.Context) error {
	if len(s.sentinels()) == 0 {
		return nil
	}
	why := ""
	var a sentinelsView
	all := within(ctx, meetLimit, memberPoll, func(ctx context.Context) bool {
		a = s.askSentinels(ctx, time.Second)
		for _, name := range s.sentinels() {
			_, answers := a.Known[name]
			switch missing := a.missing(name); {
			case !answers:
				why = name + " does not answer"
				return false
			case len(missing) > 0:
				why = fmt.Sprintf("%s does not know %s", name, strings.Join(missing, ", "))
				return false
			}
			if err := s.setQuorum(ctx, name); err != nil {
				why = err.Error()
				return false
			}
		}
		return true
	})
	if !all {
		return fmt.Errorf("the Sentinels do not know each node after %v: %s", meetLimit, why)
	}
	return s.noteForgotten(a) // the Sentinels have the new address of a Sentinel that has moved
}

// setQuorum gives a Sentinel the quorum for the current number of Sentinels, if it has another
// one.
func (s *Supervisor) setQuorum(ctx context.Context, sentinel string) error {
	ctx, cancel := context.WithTimeout(ctx, settingLimit)
	defer cancel()
	is, err := s.admin(sentinel).Watching(ctx, s.name())
	if err != nil || is.Quorum == s.quorum() {
		return err
	}
	return s.admin(sentinel).SetQuorum(ctx, s.name(), s.quorum())
}

// setQuorums calls setQuorum for all Sentinels. Those that do not respond get the quorum when
// they are back.
func (s *Supervisor) setQuorums(ctx context.Context) {
	for _, name := range s.sentinels() {
		if err := s.setQuorum(ctx, name); err != nil {
			s.log.Warn("cannot set the quorum", "node", name, "error", err)
		}
	}
}

// leave waits until a redis node or Sentinel may leave or move. A redis node must not be the
// master any more, and another node has to have all data. Before a Sentinel leaves, the others
// have to be able to fail over.
func (x *stepper) leave(ctx context.Context) error {
	s, node := x.sup, x.step.Node
	if x.from.process.Kind == plan.Sentinel {
		why := ""
		if !within(ctx, leaveLimit, memberPoll, func(ctx context.Context) bool {
			why = s.askSentinels(ctx, time.Second).whyNoFailover(node)
			return why == ""
		}) {
			return fmt.Errorf("it cannot leave its place now: %s", why)
		}
		return nil
	}
	if err := x.handOver(ctx); err != nil {
		return err
	}
	why := ""
	if !within(ctx, leaveLimit, memberPoll, func(ctx context.Context) bool {
		others, reasons := x.others(s.gather(ctx, time.Second))
		why = inWhole(reasons)
		// If the only replica moves, there is no node to take its place.
		return len(others) >= 2 || x.step.Action == plan.Restart && len(s.nodesOfKind(plan.Redis)) == 2
	}) {
		return fmt.Errorf("it has the last copy of the data beside the master's, and cannot leave its place: %s", why)
	}
	return nil
}

// others returns the other nodes that stay and have all data, and the reasons why further ones
// do not have it.
func (x *stepper) others(f redisFacts) (names []string, why map[string]string) {
	names, why = f.inSync()
	goes := func(name string) bool { return name == x.step.Node || !x.stays(name) }
	maps.DeleteFunc(why, func(name, _ string) bool { return goes(name) })
	return slices.DeleteFunc(names, goes), why
}

// inWhole joins the reasons why nodes do not have all data.
func inWhole(why map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(why)) {
		all = append(all, name+": "+why[name])
	}
	if len(all) == 0 {
		return "no other node stays"
	}
	return strings.Join(all, ", ")
}

// handOver makes another redis node that stays the master, if this node is it.
func (x *stepper) handOver(ctx context.Context) error {
	var failed error
	if !within(ctx, leaveLimit, memberPoll, func(ctx context.Context) bool {
		failed = x.tryHandOver(ctx)
		return failed == nil
	}) {
		return failed
	}
	return nil
}

// tryHandOver is handOver without waiting.
func (x *stepper) tryHandOver(ctx context.Context) error {
	s, node := x.sup, x.step.Node
	f := s.gather(ctx, time.Second)
	address, _, err := f.master()
	master := f.nameOf(address)
	if f.Sentinels == 0 {
		master, err = f.Appointed, nil
	}
	switch {
	case err != nil:
		return err
	case master != node && f.Standings[master].Master:
		return nil
	case master != node:
		return fmt.Errorf("%s is named master, and does not say so itself", master)
	case f.Sentinels == 0:
		return errors.New("it is the master, and without Sentinels nobody can take its place")
	}
	others, why := x.others(f)
	if len(others) == 0 {
		return errors.New("it is the master, and no node can take its place: " + inWhole(why))
	}
	best := slices.MaxFunc(others, func(a, b string) int { return int(f.Standings[a].Offset - f.Standings[b].Offset) })
	_, err = s.Switchover(ctx, best)
	return err
}

// forget makes a Sentinel forget all nodes that are no longer in the stack. It returns when the
// Sentinel knows exactly the current nodes.
func (s *Supervisor) forget(ctx context.Context, sentinel string) error {
	var why string
	var a sentinelsView
	done := within(ctx, forgetLimit, memberPoll, func(ctx context.Context) bool {
		if err := s.setQuorum(ctx, sentinel); err != nil {
			why = err.Error()
			return false
		}
		if a, why = s.forgetOnce(ctx, sentinel); why != "" {
			return false
		}
		if missing := a.missing(sentinel); len(missing) > 0 {
			why = "it has not found " + strings.Join(missing, ", ") + " again"
			return false
		}
		return true
	})
	if !done {
		return fmt.Errorf("%s still knows nodes that are gone, or does not know all that are there, after %v: %s; 'holdfast apply' goes on when that is over", sentinel, forgetLimit, why)
	}
	return s.noteForgotten(a)
}

// forgetOnce resets a Sentinel if it knows an address where no node of the stack is and may forget
// now. It returns why the Sentinel still knows one; empty: it knows none.
func (s *Supervisor) forgetOnce(ctx context.Context, sentinel string) (sentinelsView, string) {
	// The lock keeps a switchover from beginning between the check and the reset.
	if !s.switching.TryLock() {
		return sentinelsView{}, "a switchover is under way"
	}
	defer s.switching.Unlock()
	a := s.askSentinels(ctx, time.Second)
	if _, answers := a.Known[sentinel]; !answers {
		return a, "it does not answer"
	}
	unknown := a.unknownAddresses(sentinel)
	if len(unknown) == 0 {
		return a, ""
	}
	if why := a.whyNoReset(sentinel); why != "" {
		return a, why
	}
	s.log.Info("a Sentinel forgets", "node", sentinel, "addresses", unknown)
	if err := s.admin(sentinel).Reset(ctx, s.name()); err != nil {
		return a, err.Error()
	}
	return a, "it has just been told to forget " + strings.Join(unknown, ", ")
}

// forgetAll makes the Sentinels forget, one after the other.
func (s *Supervisor) forgetAll(ctx context.Context) error {
	for _, name := range s.sentinels() {
		if err := s.forget(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// checkLeaving returns, before anything is done, why redis nodes and Sentinels could not leave
// or move now. It waits for obstacles that pass soon, such as the end of a failover.
func (s *Supervisor) checkLeaving(ctx context.Context, final layout, changes []plan.NodeChange) (wrong []string) {
	leaves := func(c plan.NodeChange) bool {
		return c.Kind.Traits().KnownByAddress && (c.Action == plan.Stop || c.Moves())
	}
	if !slices.ContainsFunc(changes, leaves) {
		return nil
	}
	within(ctx, settingLimit, memberPoll, func(ctx context.Context) bool {
		wrong = s.askSentinels(ctx, time.Second).mayNotLeave(changes, func(name string) bool { _, there := final.nodePlan(name); return there })
		return len(wrong) == 0
	})
	return wrong
}

// mayNotLeave returns why nodes could not leave or move now.
func (a sentinelsView) mayNotLeave(changes []plan.NodeChange, stays func(node string) bool) (wrong []string) {
	if why := a.whyNoFailover(""); why != "" && a.Sentinels > 0 {
		wrong = append(wrong, "redis nodes and Sentinels can leave or move only while all Sentinels are well: "+why)
	}
	whole, why := a.inSync()
	whole = slices.DeleteFunc(whole, func(name string) bool { return !stays(name) })
	maps.DeleteFunc(why, func(name, _ string) bool { return !stays(name) })
	for _, c := range changes {
		if c.Kind == plan.Redis && c.Action == plan.Stop && len(whole) < 2 {
			wrong = append(wrong, fmt.Sprintf("%s has the last copy of the data beside the master's, and cannot go now (redis.replicas): %s", c.Node, inWhole(why)))
		}
	}
	return wrong
}
