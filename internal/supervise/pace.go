package supervise

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// How often Sentinels ask and tell. It decides how long a failover takes.

// Sentinels ask for INFO and tell of themselves this often, so that they know
// of a new replica, and how far each one is, within a second.
//
// infoPeriod also decides how soon a promotion is seen, where nobody hurries the
// Sentinels (see hurry): the one that leads a failover asks for INFO a second
// after the last time, whatever the period (sentinelSendPeriodicCommands in Redis
// 7.0), and turns the other replicas only when it has seen the new role there.
// The last time lies up to one period before the master is held for down (650 ms
// after its end), and the replica is promoted 200 to 250 ms after that. So a
// shorter period makes the wait longer, and one that is longer than 750 ms has
// some of these questions asked too early and again a second later.
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

// pace is how often one Sentinel asks for INFO.
type pace struct {
	// mu is held while the Sentinel is told, too: what it has is what was
	// wanted last, and told is about that.
	mu   sync.Mutex
	told int // the pid that has its periods; 0: nobody knows
	// otherSince is since when it has had others; zero: it has them.
	otherSince time.Time
	// wishes are of those who want another period than infoPeriod for a while.
	wishes []*wish
}

// wish is what one call of hurry wants of one Sentinel.
type wish struct{ period time.Duration }

// period is what the Sentinel should have: the shortest that anybody wants.
func (p *pace) period() time.Duration {
	if len(p.wishes) == 0 {
		return infoPeriod
	}
	return slices.MinFunc(p.wishes, func(a, b *wish) int { return cmp.Compare(a.period, b.period) }).period
}

// change makes a wish, a new one or another one, and 0 takes it back. The
// Sentinel is told; where that fails the next probe does it.
func (p *pace) change(w *wish, period time.Duration, tell func(time.Duration) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wishes = slices.DeleteFunc(p.wishes, func(other *wish) bool { return other == w })
	if w.period = period; period > 0 {
		p.wishes = append(p.wishes, w)
	}
	err := tell(p.period())
	if err != nil {
		p.told = 0
	}
	return err
}

// forget has the Sentinel told its periods anew by its next probe.
func (p *pace) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = 0
}

// introduce tells a Sentinel that is new to this supervisor.
func (p *pace) introduce(pid int, tell func(time.Duration) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told == pid && pid != 0 {
		return nil
	}
	if err := tell(p.period()); err != nil {
		return err
	}
	p.told = pid
	return nil
}

// othersFor is how long a Sentinel may have other periods than those that this supervisor gave
// it: the supervisor of another pod takes all Sentinels through steps in a switchover, which
// relies on them, and back. One that ends in between leaves its own.
const othersFor = leftLooks * time.Second

// review takes in which periods a Sentinel has now, and has it told its own anew where it has
// had others for too long and no failover is under way.
func (p *pace) review(is redis.Periods, failing bool, now time.Time, of func(info time.Duration) redis.Periods, tell func(time.Duration) error) error {
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
	return tell(p.period())
}

// probeSentinel asks a Sentinel for its view; a Sentinel that is new to this
// supervisor is given its periods first.
func (s *Supervisor) probeSentinel(ctx context.Context, p plan.Process) error {
	admin := s.admin(p.Node)
	pid := 0
	if st, ok := s.board.snapshot().Node(p.Node); ok {
		pid = st.PID
	}
	tell := func(info time.Duration) error { return s.hasten(ctx, p.Node, info) }
	err := s.paceOf(p.Node).introduce(pid, func(info time.Duration) error {
		if !s.pacedElsewhere(ctx, p.Node) {
			if err := tell(info); err != nil {
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
	return s.paceOf(p.Node).review(is, view.Failing, time.Now(), s.periods, tell)
}

// pacedElsewhere reports whether somebody else has given a Sentinel periods already: the
// supervisor that was here before, or that of another pod, which may be in the middle of a
// switchover. They are reviewed.
func (s *Supervisor) pacedElsewhere(ctx context.Context, sentinel string) bool {
	if !s.hosts.apart {
		return false
	}
	is, err := s.admin(sentinel).Periods(ctx)
	return err == nil && is.Info != redis.DefaultInfo
}

// quorum is how many Sentinels have to agree that the master is down: a majority of those
// that there are, also in the midst of a change.
func (s *Supervisor) quorum() int { return len(s.sentinels())/2 + 1 }

// hasten gives a Sentinel its periods.
func (s *Supervisor) hasten(ctx context.Context, sentinel string, info time.Duration) error {
	return s.admin(sentinel).Hasten(ctx, s.periods(info))
}

// periods are those of a Sentinel that asks for INFO so often.
func (s *Supervisor) periods(info time.Duration) redis.Periods {
	return redis.Periods{Info: info, Publish: publishPeriod, Ping: pingPeriod(s.stack().Redis.DownAfter)}
}

const (
	// askPeriod is over at the next tick for every node that was not asked just
	// before. It is not shorter because it may stay, where this supervisor dies:
	// a Sentinel takes no replica for a failover by hand whose INFO is older
	// than three periods (sentinelSelectSlave in Redis 7.0).
	askPeriod = 60 * time.Millisecond
	// oneTick is longer than a Sentinel takes from one look at what is due to
	// the next: 52 to 100 ms (sentinelTimer in Redis 7.0), and what it is late.
	oneTick = 150 * time.Millisecond
	// holdPeriod is what a Sentinel has in a failover anyhow.
	holdPeriod = time.Second
	// askBefore is how long before the master's silence is too long the nodes
	// are asked. The replica is promoted 0.36 s after that, and the next
	// question comes 1.0 to 1.2 s after this one.
	askBefore = 500 * time.Millisecond
	// longDownAfter is from when on nobody is hurried.
	longDownAfter = 1500 * time.Millisecond
)

// step is a period that Sentinels have for so long.
type step struct{ period, lasts time.Duration }

// afterDeath is what Sentinels do when a redis node has died: ask once, half a
// second before they would hold a master for down, and not again before a
// second has passed. They do the latter by themselves only from when they agree
// that it is down, which is too late for infoPeriod where the machine is busy.
// (A replica's own word that its link is down has the same effect, but it tells
// that in whole seconds, and at first says 0. Where it has said 1 the next
// question comes a second later, whatever the period: so none is asked before
// ours.) A long silence is left alone: the 0.4 s that this gains are little beside
// it, and the Sentinels would know less of the replicas for as long.
func afterDeath(downAfter time.Duration) []step {
	if downAfter > longDownAfter {
		return nil
	}
	ask, hold := step{askPeriod, oneTick}, step{holdPeriod, holdPeriod}
	if delay := downAfter - askBefore; delay > 0 {
		return []step{{holdPeriod + delay, delay}, ask, hold}
	}
	return []step{ask, hold}
}

// hurry has every Sentinel ask every node for INFO when a redis node has died.
// If that was the master, the next question comes a second later, when one of
// its replicas has just been promoted, and not at any time in 1.05 to 1.65 s
// after its end. And what a Sentinel knows of their offsets when it chooses is
// from after the master's end, or from 60 ms before it. Whether the master is
// down the Sentinels find out as before.
func (s *Supervisor) hurry() { s.pacedBy(afterDeath(s.stack().Redis.DownAfter)) }

// pacedBy takes every Sentinel through steps, and back.
func (s *Supervisor) pacedBy(steps []step) {
	if len(steps) == 0 {
		return
	}
	for _, name := range s.sentinels() {
		s.tasks.Go(func() { s.paceOne(name, steps) })
	}
}

func (s *Supervisor) paceOne(sentinel string, steps []step) {
	mine := new(wish)
	want := func(period time.Duration) error {
		return s.paceOf(sentinel).change(mine, period, func(info time.Duration) error {
			// Also when this supervisor ends: the Sentinel stays. One that died
			// would leave the period as it is, until the next one comes.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
			defer cancel()
			return s.hasten(ctx, sentinel, info)
		})
	}
	for _, step := range steps {
		if want(step.period) != nil || !s.wait(step.lasts) {
			break
		}
	}
	_ = want(0) // if that fails the next probe does it
}

// wait says whether that time has passed; else the supervisor ends.
func (s *Supervisor) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
