package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// ErrSeveralHosts is the error of a request to run a stack of one host by a file with several
// hosts.
var ErrSeveralHosts = errors.New("hosts: this stack is on one machine alone: 'holdfast apply' makes the machine the first of its hosts while the stack serves; or take it down ('holdfast down'), and 'holdfast up' begins with this file, with the data that it has")

// ErrPlainSoFar is the error of a request to give a stack of one host more hosts and encryption
// between the nodes while it serves. Its nodes talk without TLS, and would have to change to TLS
// one after the other.
var ErrPlainSoFar error = &RefusedError{`network: the nodes of this stack speak in plain with each other, and cannot change to TLS one after the other while they serve. Write "network: trusted" to grow without stopping, where nobody else hears the network between the hosts; or take the stack down ('holdfast down'), and 'holdfast up' with this file has it speak TLS, with the data that it has. Nothing was changed`}

// mergeHosts merges several hosts into one, for a supervisor that looks after all of them. The
// processes are in the order of their stages: a stage is one stage on all hosts.
func mergeHosts(hosts []plan.Host) plan.Host {
	all := plan.Host{Name: hosts[0].Name}
	for _, h := range hosts {
		for _, d := range h.Dirs {
			if !slices.Contains(all.Dirs, d) {
				all.Dirs = append(all.Dirs, d)
			}
		}
		all.Files = append(all.Files, h.Files...)
		all.Processes = append(all.Processes, h.Processes...)
	}
	slices.SortStableFunc(all.Processes, func(a, b plan.Process) int { return cmp.Compare(a.Stage, b.Stage) })
	return all
}

// whyNotStart returns what a node's start has to wait for, or "". A redis node may also have to
// wait for its role: see decide.
func (n *node) whyNotStart(ctx context.Context) string {
	host := n.home()
	if !host.Present(ctx) {
		return "its host is away; it starts when the host is back"
	}
	if err := n.sup.catchUp(ctx, host); err != nil {
		return fmt.Sprintf("its host is there, and not well: %v", err)
	}

	if n.notFoundYet {
		return "" // start checks first whether it runs already
	}
	if err := n.sup.lacksRelease(ctx, host, n.spec()); err != nil {
		return err.Error()
	}
	if pid := n.sup.leftoverBalancer(ctx, *n.spec()); pid != 0 {
		return fmt.Sprintf("a HAProxy that no record tells of (pid %d) still serves in its place; it starts when that has ended", pid)
	}
	return ""
}

// goOnWithout has the stack go on without a host that failed with err. The host's nodes wait until
// it is well (catchUp). It returns false if the stack cannot go on: when it is started for the
// first time, or has one host alone.
func (s *Supervisor) goOnWithout(host string, err error) bool {
	if !s.hosts.several || !s.hosts.begun {
		return false
	}
	s.hosts.absent.add(host)
	s.log.Error("a host is not well, and the stack goes on without it", "host", host, "error", err)
	return true
}

// noteAbsent finds out which hosts are away. A change then goes on without them, and what it
// does is done there when they are back.
func (s *Supervisor) noteAbsent(ctx context.Context) {
	if !s.hosts.several || !s.hosts.begun && s.statusBoard.snapshot().Phase == PhaseStarting {
		return // the first start needs all hosts
	}
	var looking sync.WaitGroup
	for _, host := range s.hosts.all() {
		looking.Go(func() {
			if !host.Present(ctx) && ctx.Err() == nil {
				s.hosts.absent.add(host.name)
			}
		})
	}
	looking.Wait()
}

// checkAbsent returns why steps cannot be taken: their nodes are on hosts that are away. A
// reload can wait until the host is back.
func (s *Supervisor) checkAbsent(steps []plan.Step, now, final layout) (reasons []string) {
	said := map[string]bool{}
	for _, step := range steps {
		for _, of := range []layout{now, final} {
			p, there := of.nodePlan(step.Node)
			if !there || step.Action == plan.Reload || said[step.Node] || !s.hosts.isAbsent(p.host) {
				continue
			}
			said[step.Node] = true
			reasons = append(reasons, fmt.Sprintf("%s: host %s is away, and has its part in that (%s); try again when it is back, or take it out of the stack with 'holdfast host remove %[2]s'", step.Node, p.host, step.Action))
		}
	}
	return reasons
}

// keepCatchingUp brings hosts that are back up to date, even if none of their nodes has to
// start.
func (s *Supervisor) keepCatchingUp() {
	var asked sync.Map // the hosts being asked: one that is stuck does not hold up the others
	for s.hosts.several && clock.Sleep(s.ctx, time.Second) {
		for _, name := range s.hosts.absent.names() {
			if _, is := asked.LoadOrStore(name, true); is {
				continue
			}
			s.tasks.Go(func() {
				defer asked.Delete(name)
				if host := s.hosts.at(name); host.Present(s.ctx) {
					_ = s.catchUp(s.ctx, host) // the detail of a node that has to start shows the error
				}
			})
		}
	}
}

// catchUp brings a host that was away or not well up to date: it does there, once, what was done
// on the other hosts meanwhile.
func (s *Supervisor) catchUp(ctx context.Context, host home) error {
	if !s.hosts.absent.has(host.name) {
		return nil // the usual case; it takes no lock that a stuck host may hold
	}
	one, _ := s.catchingUp.LoadOrStore(host.name, &sync.Mutex{})
	held := one.(*sync.Mutex)
	held.Lock()
	defer held.Unlock()
	if !s.hosts.absent.has(host.name) {
		return nil
	}

	if err := host.takeOver(ctx, s.log); err != nil {
		return err
	}
	for _, h := range s.Plan().Hosts {
		if h.Name != host.name {
			continue
		}
		if err := host.putFiles(ctx, h); err != nil {
			return err
		}
	}

	s.hosts.absent.end(host.name)
	s.log.Info("a host is back", "host", host.name)
	s.tasks.Go(func() { s.reloadOn(host.name) })
	return nil
}

// reloadOn has the balancers of a host read the files that were written there.
func (s *Supervisor) reloadOn(host string) {
	for _, st := range s.statusBoard.snapshot().Nodes {
		if st.Host != host || !st.Kind.Traits().Reloads || st.PID == 0 {
			continue
		}
		if err := s.send(s.ctx, st.Name, command{action: actReload}); err != nil && s.ctx.Err() == nil {
			s.log.Warn("a balancer of a host that is back has not taken up its files", "node", st.Name, "error", err)
		}
	}
}

// takeOver clears up what an earlier supervisor left on a host, and checks that the host's
// records and facts can be read.
func (h home) takeOver(ctx context.Context, log *slog.Logger) error {
	h.sweep(ctx)
	if err := h.recordLaunched(ctx, log); err != nil {
		return err
	}
	nodes, err := h.recorded(ctx)
	for _, node := range nodes {
		_, wrong := h.readRecord(ctx, node)
		err = errors.Join(err, wrong)
	}
	if err == nil {
		_, err = h.Facts(ctx)
	}
	return err
}

// errAway is the error of an action on a node of a host that is away, so that nobody knows
// whether the node runs.
var errAway = errors.New("its host is away, and whether it runs there is not known: try again when the host is back")

// findProcessNow is findProcess for an action that depends on whether the node runs.
func (n *node) findProcessNow() error {
	ctx, cancel := context.WithTimeout(n.sup.ctx, findProcessLimit)
	defer cancel()
	host := n.home()
	if !host.Present(ctx) {
		return fmt.Errorf("%s: %w", n.spec().Node, errAway)
	}
	err := n.sup.catchUp(ctx, host)
	if err == nil {
		_, err = n.findProcess(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: its host is back, and does not say whether it runs: %w", n.spec().Node, err)
	}
	return nil
}

// markNotFound notes that nobody knows whether the node runs, before the node's own goroutine begins.
func (n *node) markNotFound() {
	n.notFoundYet = true
	n.sup.statusBoard.update(n.spec().Node, func(s *NodeStatus) { s.Unknown = true })
}

// findProcessLimit is how long a host may take to report whether a node runs.
const findProcessLimit = 10 * time.Second

// findProcess looks for the process of a node whose host was away when the supervisor began. It
// returns true if the process runs, or if the node is wanted down.
func (n *node) findProcess(ctx context.Context) (bool, error) {
	host, name := n.home(), n.spec().Node
	r, err := host.readRecord(ctx, name)
	if err != nil {
		return false, err
	}

	n.notFoundYet = false
	n.restarts, n.crashes, n.settingsDigest = r.Restarts, r.Crashes, r.Plan
	if r.Want == wantDown {
		n.want, n.state, n.detail = wantDown, Down, ""
		n.keepDown.Store(true)
		n.publish()
		return true, nil
	}

	if r.Process.PID == 0 {
		return false, nil
	}
	proc, err := host.Adopt(ctx, r.Process)
	switch {
	case errors.Is(err, machine.ErrGone):
		n.restarts++
		n.crashes++
		return false, nil
	case err != nil:
		n.notFoundYet = true
		return false, err
	}

	n.outdated.Store(r.Plan != n.sup.digest(*n.spec()))
	n.adopt(proc, r)
	if n.outdated.Load() && n.spec().Kind.Traits().Reloads {
		n.sup.tasks.Go(func() { n.sup.reloadOn(host.name) })
	}
	return true, nil
}

// withNew returns the plan p with the wanted settings for nodes that have never run on their
// hosts. Another machine may have taken the place of a host and have its files elsewhere; with
// the paths of the former machine nothing would start there.
func (s *Supervisor) withNew(p plan.Plan, wanted layout) plan.Plan {
	for _, h := range p.Hosts {
		if !s.hosts.several || s.hosts.isAbsent(h.Name) {
			continue
		}
		for _, of := range h.Processes {
			to, there := wanted.nodePlan(of.Node)
			if !there || to.host != h.Name {
				continue
			}
			if r, err := s.hosts.at(h.Name).readRecord(s.ctx, of.Node); err == nil && r.Plan == "" && r.Process.PID == 0 {
				p = withNode(p, to)
			}
		}
	}
	return p
}
