package supervise

import (
	"context"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// What the supervisor does with Redis and the Sentinels; what it makes of
// their answers is in decide.go.

// Sentinels ask for INFO and tell of themselves this often, so that they know
// of a new replica, and how far each one is, within a second.
//
// infoPeriod also decides how soon a promotion is seen: the Sentinel that leads
// a failover asks for INFO a second after the last time, whatever the period
// (sentinelSendPeriodicCommands in Redis 7.0), and turns the other replicas only
// when it has seen the new role there. The last time lies up to one period before
// the master is held for down (650 ms after its end), and the replica is
// promoted 200 to 250 ms after that. So a shorter period makes the wait longer,
// and one that is longer than 750 ms has some of these questions asked too early
// and again a second later.
const (
	infoPeriod    = 700 * time.Millisecond
	publishPeriod = time.Second
)

// pingPeriod is how often Sentinels ping. By default they do so as often as a
// node may be silent: after each change of the master, when they connect anew
// and count the silence from then on, the first ping comes as late as the
// verdict, and a healthy new master may be held for down. It must not be much
// shorter either: in a failover a replica is only eligible when its INFO is no
// older than five pings, and that is asked for once a second
// (sentinelSelectSlave in Redis 7.0).
func pingPeriod(downAfter time.Duration) time.Duration {
	return min(max(downAfter/2, 250*time.Millisecond), time.Second)
}

// probeSentinel asks a Sentinel for its view; a Sentinel that is new to this
// supervisor is given its periods first.
func (s *Supervisor) probeSentinel(ctx context.Context, p plan.Process) error {
	admin := s.admins[p.Node]
	pid := 0
	if st, ok := s.board.snapshot().Node(p.Node); ok {
		pid = st.PID
	}
	s.hastenedMu.Lock()
	done := s.hastened[p.Node] == pid && pid != 0
	s.hastenedMu.Unlock()
	if !done {
		if err := admin.Hasten(ctx, infoPeriod, publishPeriod, pingPeriod(s.cfg.Stack.Redis.DownAfter)); err != nil {
			return err
		}
		if err := admin.SetQuorum(ctx, s.plan.Name, s.cfg.Stack.Redis.Sentinels/2+1); err != nil {
			return err
		}
		s.hastenedMu.Lock()
		s.hastened[p.Node] = pid
		s.hastenedMu.Unlock()
	}
	_, err := admin.View(ctx, s.plan.Name)
	return err
}

// gather asks all Sentinels and redis nodes at once, and waits at most wait.
func (s *Supervisor) gather(ctx context.Context, wait time.Duration) facts {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	f := facts{Nodes: map[string]string{}, Standings: map[string]redis.Standing{}, Running: map[string]bool{}}
	for _, st := range s.board.snapshot().Nodes {
		if st.Kind == plan.Redis && st.PID != 0 {
			f.Running[st.Name] = true
		}
	}
	answers := make(chan func(), len(s.nodes)) // each puts what was said into f
	asked := 0
	ask := func(question func() (heard func())) {
		asked++
		s.tasks.Go(func() { answers <- question() })
	}
	silence := func() {}
	for name, n := range s.nodes {
		switch n.spec.Kind {
		case plan.Sentinel:
			f.Sentinels++
			ask(func() func() {
				v, err := s.admins[name].View(ctx, s.plan.Name)
				if err != nil {
					return silence
				}
				return func() { f.Views = append(f.Views, v) }
			})
		case plan.Redis:
			f.Nodes[name] = n.spec.Address
			ask(func() func() {
				st, err := s.admins[name].Standing(ctx)
				if err != nil {
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

// decide judges in which part a redis node starts, on the facts given or on
// new ones.
func (s *Supervisor) decide(ctx context.Context, node string, deadAt time.Time, seen *facts) start {
	f := facts{}
	if seen != nil {
		f = *seen
	} else {
		f = s.gather(ctx, 500*time.Millisecond)
	}
	r := s.cfg.Stack.Redis
	return decide(candidate{
		Name:   node,
		Empty:  s.dir.empty(node),
		Booted: s.booted.Load(),
		Dead:   time.Since(deadAt),
		// Time for one failover that fails, the wait before the next (twice
		// the time-out), and that one.
		HoldBack: r.DownAfter + 3*r.FailoverTimeout + 2*time.Second,
	}, f)
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
		if f.failing() {
			continue // the Sentinels try; that proves nothing either way
		}
		node, yes := deadlocked(f)
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
		if err := s.admins[node].Promote(ctx); err != nil {
			s.log.Error("cannot promote", "node", node, "error", err)
		}
		looks = 0
	}
}

// markBooted remembers that the stack has had its first boot. It happens when
// a redis node is seen to be master, which the web nodes wait for: no client
// has had a write acknowledged yet.
func (s *Supervisor) markBooted() error {
	s.bootedMu.Lock()
	defer s.bootedMu.Unlock()
	if s.booted.Load() {
		return nil
	}
	s.kept.Booted = true
	if err := s.dir.writeJSON(keptFile, s.kept); err != nil {
		return err
	}
	s.booted.Store(true)
	return nil
}
