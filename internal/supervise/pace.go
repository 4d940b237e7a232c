package supervise

import (
	"context"
	"time"

	"holdfast/internal/plan"
)

// How often Sentinels ask and tell. It decides how long a failover takes.

// Sentinels ask for INFO and tell of themselves this often, so that they know
// of a new replica, and how far each one is, within a second.
//
// infoPeriod also decides how soon a promotion is seen, where nobody hurries the
// Sentinels (see askNow): the one that leads a failover asks for INFO a second
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
		if err := s.hasten(ctx, p.Node, infoPeriod); err != nil {
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

// hasten gives a Sentinel its periods.
func (s *Supervisor) hasten(ctx context.Context, sentinel string, info time.Duration) error {
	return s.admins[sentinel].Hasten(ctx, info, publishPeriod, pingPeriod(s.cfg.Stack.Redis.DownAfter))
}

const (
	// oneTick is longer than a Sentinel takes from one look at what is due to
	// the next: 52 to 100 ms (sentinelTimer in Redis 7.0).
	oneTick = 120 * time.Millisecond
	// atEachTick is a period that is over at every tick.
	atEachTick = time.Millisecond
)

// askNow has every Sentinel ask every node for INFO at its next tick. It is
// called when a redis node has died. If that was the master, its replicas say
// that their link is down, and from then on they are asked once a second
// (infoPeriod tells why): next a second after the death, when one of them has
// just been promoted. Else that comes as late as 1.65 s after it. And what a
// Sentinel knows of their offsets when it chooses is then from after the
// master's end. Whether the master is down the Sentinels find out as before.
func (s *Supervisor) askNow() {
	for name, n := range s.nodes {
		if n.spec.Kind == plan.Sentinel {
			s.tasks.Go(func() { s.askNowBy(name) })
		}
	}
}

func (s *Supervisor) askNowBy(sentinel string) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	err := s.hasten(ctx, sentinel, atEachTick)
	if err == nil {
		select {
		case <-time.After(oneTick):
		case <-s.ctx.Done():
		}
	}
	// Also when this supervisor ends: the Sentinel stays. One that died would
	// leave the period as it is, until the next one comes.
	back, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
	defer cancel()
	if s.hasten(back, sentinel, infoPeriod) != nil {
		// The next probe does it.
		s.hastenedMu.Lock()
		delete(s.hastened, sentinel)
		s.hastenedMu.Unlock()
	}
}
