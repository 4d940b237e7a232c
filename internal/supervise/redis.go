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

// This file has what the supervisor does with Redis and the Sentinels. The decisions are in
// decide.go, and the Sentinels' periods in sentinel_periods.go.

// gather asks all Sentinels and redis nodes at once. It waits for at most wait, and returns
// what has been answered by then.
func (s *Supervisor) gather(ctx context.Context, wait time.Duration) redisFacts {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	f := redisFacts{Nodes: map[string]string{}, Standings: map[string]redis.Standing{}, RepliedWithError: map[string]bool{}, Running: map[string]bool{}, Apart: s.hosts.apart, Appointed: s.appointed()}
	maps.Copy(f.Nodes, s.formerRedisAddresses)
	for _, st := range s.statusBoard.snapshot().Nodes {
		if st.Kind == plan.Redis && st.PID != 0 {
			f.Running[st.Name] = true
		}
	}

	answers := make(chan func(), len(s.allNodes())) // each function puts one answer into f
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
					return func() { f.RepliedWithError[name] = true }
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

// appointed returns the master of a stack without Sentinels.
func (s *Supervisor) appointed() string {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	return cmp.Or(s.persisted.Redis.Replication.Master, plan.FirstMaster)
}

// decide decides in which role a redis node starts, based on the given facts, or on new ones if
// seen is nil.
func (s *Supervisor) decide(ctx context.Context, node string, deadAt time.Time, seen *redisFacts) startDecision {
	f := redisFacts{}
	if seen != nil {
		f = *seen
	} else {
		f = s.gather(ctx, 500*time.Millisecond)
	}
	empty, err := s.home(node).empty(ctx, node)
	if err != nil {
		return startDecision{Wait: fmt.Sprintf("it is not known whether it has data: %v", err)}
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

// holdBack returns the time for a failover that fails, the wait before the next one (twice the
// failover timeout), and the next one.
func (s *Supervisor) holdBack() time.Duration {
	r := s.stack().Redis
	return r.DownAfter + 3*r.FailoverTimeout + 2*time.Second
}

// reconcile repairs what the Sentinels do not repair by themselves, until ctx ends.
func (s *Supervisor) reconcile(ctx context.Context) {
	const (
		every = 2 * time.Second
		// patience is how many looks in a row have to find the same. What Sentinels repair by
		// themselves takes less time.
		patience = 6
	)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	stuck, looks := "", 0
	silent := map[string]int{} // how many looks in a row found the node hung
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
		s.endHung(ctx, hungNodes(f), silent)
		if f.failing() {
			continue // the Sentinels are at work, so nothing follows from this look
		}
		node, yes := deadlocked(f)
		yes = yes && !s.isElsewhere(node) // the node's own supervisor sees the same
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

// mayBeCutOff reports whether a node that is silent may only be cut off from this host.
func (s *Supervisor) mayBeCutOff(ctx context.Context, node string) bool {
	facts, err := s.home(node).Facts(ctx)
	return err != nil || facts.Across
}

// hungLooks is how many looks in a row have to find a redis node hung before it is killed.
// That takes about as long as a web node may hang.
const hungLooks = 5

// endHung kills a redis node that has been hung for too long; silent counts the looks for
// each node. A script that has written cannot be ended in another way (manual, SCRIPT KILL),
// and a write that the node has and the new master lacks was never acknowledged.
func (s *Supervisor) endHung(ctx context.Context, nodes []string, silent map[string]int) {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(name string) bool {
		st, _ := s.statusBoard.snapshot().Node(name)
		// On a host that a drill has cut off, its state cannot be known from here.
		return st.State == Paused || st.State == Draining || s.mayBeCutOff(ctx, name)
	})
	name := overdue(nodes, silent)
	if name == "" {
		return
	}
	s.log.Error("a redis node that is not the master does not answer: killed", "node", name, "looks", hungLooks)
	if err := s.send(ctx, name, command{action: ActKill}); err != nil {
		s.log.Error("cannot kill it", "node", name, "error", err)
	}
}

// overdue counts a look that found these nodes hung, and returns the one to kill; empty:
// none. It returns one node at a time and then counts anew, because if all nodes hang the
// machine may be the cause.
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
		if silent[name] >= hungLooks {
			clear(silent)
			return name
		}
	}
	return ""
}

// markBooted records that the stack has had its first boot. It is called when a redis node is
// first seen as the master. The web nodes wait for that, too, so no write of a client has been
// acknowledged yet.
func (s *Supervisor) markBooted() error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if s.booted.Load() {
		return nil
	}
	s.persisted.Booted = true
	if s.persisted.Redis.Replication.Master == "" {
		s.persisted.Redis.Replication.Master = plan.FirstMaster
	}
	if err := s.saveState(); err != nil {
		return err
	}
	s.booted.Store(true)
	return nil
}
