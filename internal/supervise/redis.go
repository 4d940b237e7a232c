package supervise

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// What the supervisor does with Redis and the Sentinels; what it makes of
// their answers is in decide.go, and Sentinel's pace in pace.go.

// gather asks all Sentinels and redis nodes at once, and waits at most wait.
func (s *Supervisor) gather(ctx context.Context, wait time.Duration) facts {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	f := facts{Nodes: map[string]string{}, Standings: map[string]redis.Standing{}, Spoke: map[string]bool{}, Running: map[string]bool{}, Apart: s.hosts.apart, Appointed: s.appointed()}
	maps.Copy(f.Nodes, s.former)
	for _, st := range s.board.snapshot().Nodes {
		if st.Kind == plan.Redis && st.PID != 0 {
			f.Running[st.Name] = true
		}
	}
	answers := make(chan func(), len(s.allNodes())) // each puts what was said into f
	asked := 0
	ask := func(question func() (heard func())) {
		asked++
		s.tasks.Go(func() { answers <- question() })
	}
	silence := func() {}
	for name, n := range s.allNodes() {
		switch n.spec().Kind {
		case plan.Sentinel:
			f.Sentinels++
			ask(func() func() {
				v, err := s.admin(name).View(ctx, s.name())
				if err != nil {
					return silence
				}
				return func() { f.Views = append(f.Views, v) }
			})
		case plan.Redis:
			f.Nodes[name] = n.spec().Address
			ask(func() func() {
				st, err := s.admin(name).Standing(ctx)
				switch {
				case redis.Spoke(err):
					return func() { f.Spoke[name] = true }
				case err != nil:
					return silence
				}
				return func() { f.Standings[name] = st }
			})
		}
	}
	for range asked {
		select {
		case heard := <-answers:
			heard()
		case <-ctx.Done():
			return f
		}
	}
	return f
}

// appointed is the master of a stack without Sentinels.
func (s *Supervisor) appointed() string {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	return cmp.Or(s.kept.Redis.Replication.Master, plan.FirstMaster)
}

// decide judges in which part a redis node starts, on the facts given or on
// new ones.
func (s *Supervisor) decide(ctx context.Context, node string, deadAt time.Time, seen *facts) start {
	f := facts{}
	if seen != nil {
		f = *seen
	} else {
		f = s.gather(ctx, 500*time.Millisecond)
	}
	empty, err := s.home(node).empty(ctx, node)
	if err != nil {
		return start{Wait: fmt.Sprintf("it is not known whether it has data: %v", err)}
	}
	c := candidate{
		Name:     node,
		Empty:    empty,
		Booted:   s.booted.Load(),
		Dead:     time.Since(deadAt),
		HoldBack: s.holdBack(),
	}
	if s.cold.Load() {
		c.MasterFirst = s.coldPatience()
		if newer := s.newer[node]; newer != "" {
			c.MasterFirst, c.NewestFirst, c.Newest = coldPatience+s.holdBack(), coldPatience, newer
		}
	}
	return decide(c, f)
}

// holdBack is time for one failover that fails, the wait before the next (twice the
// time-out), and that one.
func (s *Supervisor) holdBack() time.Duration {
	r := s.stack().Redis
	return r.DownAfter + 3*r.FailoverTimeout + 2*time.Second
}

// reconcile looks for what the Sentinels do not mend by themselves.
func (s *Supervisor) reconcile(ctx context.Context) {
	const (
		every = 2 * time.Second
		// patience is how many looks in a row have to agree: what Sentinel
		// mends by itself takes it less.
		patience = 6
	)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	stuck, looks := "", 0
	silent := map[string]int{} // looks in a row at which a node was wedged
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.stopping.Load() {
			return
		}
		f := s.gather(ctx, time.Second)
		if s.noteMaster(f) {
			s.leaveOldMaster(ctx)
		}
		s.noteBoot(f)
		s.endWedged(ctx, wedged(f), silent)
		if f.failing() {
			continue // the Sentinels try; that proves nothing either way
		}
		node, yes := deadlocked(f)
		yes = yes && !s.isElsewhere(node) // who looks after it sees the same
		if !yes || node != stuck {
			stuck, looks = node, 0
		}
		if !yes {
			continue
		}
		if looks++; looks < patience {
			continue
		}
		s.log.Error("every Sentinel names a master that calls itself a replica: promoted", "node", node)
		if err := s.admin(node).Promote(ctx); err != nil {
			s.log.Error("cannot promote", "node", node, "error", err)
		}
		looks = 0
	}
}

// across reports whether a node may only be cut off from here, and not be silent.
func (s *Supervisor) across(ctx context.Context, node string) bool {
	facts, err := s.home(node).Facts(ctx)
	return err != nil || facts.Across
}

// wedgedLooks is how many looks in a row a redis node may be wedged before it is
// killed, about as long as a web node may leave its probe unanswered.
const wedgedLooks = 5

// endWedged kills a redis node that has been wedged for too long; silent counts
// for how long each has been. A script that has written cannot be ended
// in another way (manual, SCRIPT KILL), and what the node has that the new master
// has not was never acknowledged.
func (s *Supervisor) endWedged(ctx context.Context, nodes []string, silent map[string]int) {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(name string) bool {
		st, _ := s.board.snapshot().Node(name)
		// Of a host of a drill that is cut off, nobody here can tell.
		return st.State == Paused || st.State == Draining || s.across(ctx, name)
	})
	name := overdue(nodes, silent)
	if name == "" {
		return
	}
	s.log.Error("a redis node that is not the master does not answer: killed", "node", name, "looks", wedgedLooks)
	if err := s.send(ctx, name, command{action: ActKill}); err != nil {
		s.log.Error("cannot kill it", "node", name, "error", err)
	}
}

// overdue takes in a look at which these nodes were wedged, and returns the one that
// is to be killed; empty: none is. Only one is killed at a time, and the count
// begins anew: where all hang, it may be the machine.
func overdue(nodes []string, silent map[string]int) string {
	for name := range silent {
		if !slices.Contains(nodes, name) {
			delete(silent, name)
		}
	}
	for _, name := range nodes {
		silent[name]++
	}
	for _, name := range nodes {
		if silent[name] >= wedgedLooks {
			clear(silent)
			return name
		}
	}
	return ""
}

// markBooted remembers that the stack has had its first boot. It happens when
// a redis node is seen to be master, which the web nodes wait for: no client
// has had a write acknowledged yet.
func (s *Supervisor) markBooted() error {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	if s.booted.Load() {
		return nil
	}
	s.kept.Booted = true
	if s.kept.Redis.Replication.Master == "" {
		s.kept.Redis.Replication.Master = plan.FirstMaster
	}
	if err := s.saveKept(); err != nil {
		return err
	}
	s.booted.Store(true)
	return nil
}
