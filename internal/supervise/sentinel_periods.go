package supervise

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// This file sets how often Sentinels ask for INFO, ping and publish. That decides how long a
// failover takes.

// Sentinels ask for INFO and publish themselves this often, so that they know within a second
// about a new replica, and about the offset of each replica.
//
// infoPeriod also decides how soon a promotion is seen, if nobody speeds the Sentinels up (see
// speedUpFailover). The Sentinel that leads a failover asks for INFO a second after the last time,
// whatever the period (sentinelSendPeriodicCommands in Redis 7.0), and makes the other replicas
// follow only when it has seen the new role there. The last time is up to one period before the
// master counts as down (650 ms after its end), and the replica is promoted 200 to 250 ms after
// that. So a shorter period makes the wait longer. With one that is longer than 750 ms, some of
// these questions come too early, and are repeated only a second later.
const (
	infoPeriod    = 700 * time.Millisecond
	publishPeriod = time.Second
)

// pingPeriod returns how often Sentinels ping. Redis' default is the time that a node may be
// silent. That is too long: after each change of the master the Sentinels connect anew and
// count the silence from then on, so the first ping would come as late as the verdict, and a
// healthy new master might count as down. It must not be much shorter either: in a failover a
// replica is only eligible if its INFO is no older than five pings, and INFO is asked for once
// a second (sentinelSelectSlave in Redis 7.0).
func pingPeriod(downAfter time.Duration) time.Duration {
	return min(max(downAfter/2, 250*time.Millisecond), time.Second)
}

// sentinelPeriods decides how often one Sentinel asks for INFO.
type sentinelPeriods struct {
	// mu is also held while the Sentinel is told. So the Sentinel has the period that was wanted
	// last, and setFor refers to that period.
	mu     sync.Mutex
	setFor int // the pid of the Sentinel that was given its periods; 0: unknown
	// otherSince is since when the Sentinel has had other periods than those given to it; zero: it
	// has those.
	otherSince time.Time
	// requests are the requests for another period than infoPeriod for a while.
	requests []*periodRequest
}

// periodRequest is the request of one applyStepsTo for one Sentinel.
type periodRequest struct{ period time.Duration }

// period returns what the Sentinel should have: the shortest period that is requested.
func (p *sentinelPeriods) period() time.Duration {
	if len(p.requests) == 0 {
		return infoPeriod
	}
	return slices.MinFunc(p.requests, func(a, b *periodRequest) int { return cmp.Compare(a.period, b.period) }).period
}

// change adds or changes a request; period 0 removes it. It tells the Sentinel. If that fails, the
// next probe does it.
func (p *sentinelPeriods) change(w *periodRequest, period time.Duration, set func(time.Duration) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = slices.DeleteFunc(p.requests, func(other *periodRequest) bool { return other == w })
	if w.period = period; period > 0 {
		p.requests = append(p.requests, w)
	}
	err := set(p.period())
	if err != nil {
		p.setFor = 0
	}
	return err
}

// setAgain makes the next probe tell the Sentinel its periods again.
func (p *sentinelPeriods) setAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setFor = 0
}

// setForNew tells its periods to a Sentinel process that is new to this supervisor.
func (p *sentinelPeriods) setForNew(pid int, set func(time.Duration) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.setFor == pid && pid != 0 {
		return nil
	}
	if err := set(p.period()); err != nil {
		return err
	}
	p.setFor = pid
	return nil
}

// othersFor is how long a Sentinel may have other periods than this supervisor gave it. During
// a switchover, the supervisor of another pod changes the periods of all Sentinels, relies on
// them, and changes them back. If it ends in between, its periods stay.
const othersFor = leftLooks * time.Second

// review compares the periods that a Sentinel has now with the wanted ones. It tells the
// Sentinel its periods again if it has had others for too long and no failover is under way.
func (p *sentinelPeriods) review(is redis.Periods, failing bool, now time.Time, of func(info time.Duration) redis.Periods, set func(time.Duration) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failing || is == of(p.period()):
		p.otherSince = time.Time{}
		return nil
	case p.otherSince.IsZero():
		p.otherSince = now
	}
	if now.Sub(p.otherSince) < othersFor {
		return nil
	}
	p.otherSince = time.Time{}
	return set(p.period())
}

// probeSentinel asks a Sentinel for its view. It first gives a Sentinel that is new to this
// supervisor its periods and the quorum.
func (s *Supervisor) probeSentinel(ctx context.Context, p plan.Process) error {
	admin := s.admin(p.Node)
	pid := 0
	if st, ok := s.statusBoard.snapshot().Node(p.Node); ok {
		pid = st.PID
	}
	set := func(info time.Duration) error { return s.setPeriods(ctx, p.Node, info) }
	err := s.periodsOf(p.Node).setForNew(pid, func(info time.Duration) error {
		if !s.periodsSetElsewhere(ctx, p.Node) {
			if err := set(info); err != nil {
				return err
			}
		}
		return admin.SetQuorum(ctx, s.name(), s.quorum())
	})
	if err != nil {
		return err
	}
	view, err := admin.View(ctx, s.name())
	if err != nil || !s.hosts.apart {
		return err
	}
	is, err := admin.Periods(ctx)
	if err != nil {
		return err
	}
	return s.periodsOf(p.Node).review(is, view.Failing, time.Now(), s.periods, set)
}

// periodsSetElsewhere reports whether somebody else has already given a Sentinel periods: an
// earlier supervisor, or that of another pod, which may be in the middle of a switchover. Such
// periods are left to review.
func (s *Supervisor) periodsSetElsewhere(ctx context.Context, sentinel string) bool {
	if !s.hosts.apart {
		return false
	}
	is, err := s.admin(sentinel).Periods(ctx)
	return err == nil && is.Info != redis.DefaultInfo
}

// quorum returns how many Sentinels have to agree that the master is down: a majority of the
// current Sentinels, also in the middle of a change.
func (s *Supervisor) quorum() int { return len(s.sentinels())/2 + 1 }

// setPeriods gives a Sentinel its periods.
func (s *Supervisor) setPeriods(ctx context.Context, sentinel string, info time.Duration) error {
	return s.admin(sentinel).Hasten(ctx, s.periods(info))
}

// periods returns all periods of a Sentinel whose INFO period is given.
func (s *Supervisor) periods(info time.Duration) redis.Periods {
	return redis.Periods{Info: info, Publish: publishPeriod, Ping: pingPeriod(s.stack().Redis.DownAfter)}
}

const (
	// askPeriod is so short that, at the next tick, it has passed for every node that was not
	// asked just before. It is not shorter because it may stay if this supervisor dies: in a
	// failover by hand a Sentinel does not choose a replica whose INFO is older than three periods
	// (sentinelSelectSlave in Redis 7.0).
	askPeriod = 60 * time.Millisecond
	// oneTick is longer than the time between two ticks of a Sentinel, 52 to 100 ms (sentinelTimer
	// in Redis 7.0), with some delay.
	oneTick = 150 * time.Millisecond
	// holdPeriod is the period that a Sentinel uses in a failover anyway.
	holdPeriod = time.Second
	// askBefore is how long before the end of down-after the nodes are asked. The replica is
	// promoted 0.36 s after that end, and the next question comes 1.0 to 1.2 s after this one.
	askBefore = 500 * time.Millisecond
	// longDownAfter is the longest down-after for which Sentinels are sped up.
	longDownAfter = 1500 * time.Millisecond
)

// periodStep is a period that Sentinels get for a time.
type periodStep struct{ period, lasts time.Duration }

// afterDeath returns the periods for when a redis node has died. The Sentinels ask once, half a
// second before they would find a master down, and not again before a second has passed. By
// themselves they keep that second only from when they agree that the master is down, which is
// too late for infoPeriod if the machine is busy.
//
// A replica's own report that its link is down has the same effect. But it reports that in
// whole seconds, and at first 0. After a report of 1, the next question comes a second later,
// whatever the period: so no question is sent before ours.
//
// A long down-after is left alone: beside it the 0.4 s that this gains are little, and the
// Sentinels would know less about the replicas for that long.
func afterDeath(downAfter time.Duration) []periodStep {
	if downAfter > longDownAfter {
		return nil
	}
	ask, hold := periodStep{askPeriod, oneTick}, periodStep{holdPeriod, holdPeriod}
	if delay := downAfter - askBefore; delay > 0 {
		return []periodStep{{holdPeriod + delay, delay}, ask, hold}
	}
	return []periodStep{ask, hold}
}

// speedUpFailover makes every Sentinel ask every node for INFO, because a redis node has died. If
// that was the master, the next question comes a second later, just after one of its replicas has
// been promoted; otherwise it would come at any time from 1.05 to 1.65 s after the master's end.
// Also, what a Sentinel knows about the replicas' offsets when it chooses one is from after the
// master's end, or from at most 60 ms before it. How the Sentinels find out whether the master is
// down does not change.
func (s *Supervisor) speedUpFailover() { s.applyPeriodSteps(afterDeath(s.stack().Redis.DownAfter)) }

// applyPeriodSteps gives every Sentinel the periods of steps, one after the other, and then
// infoPeriod again.
func (s *Supervisor) applyPeriodSteps(steps []periodStep) {
	if len(steps) == 0 {
		return
	}
	for _, name := range s.sentinels() {
		s.tasks.Go(func() { s.applyStepsTo(name, steps) })
	}
}

func (s *Supervisor) applyStepsTo(sentinel string, steps []periodStep) {
	mine := new(periodRequest)
	request := func(period time.Duration) error {
		return s.periodsOf(sentinel).change(mine, period, func(info time.Duration) error {
			// This is done also if this supervisor ends, because the Sentinel stays. If the supervisor
			// dies, the period stays as it is until the next supervisor comes.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
			defer cancel()
			return s.setPeriods(ctx, sentinel, info)
		})
	}
	for _, step := range steps {
		if request(step.period) != nil || !clock.Sleep(s.ctx, step.lasts) {
			break
		}
	}
	_ = request(0) // if that fails the next probe does it
}
