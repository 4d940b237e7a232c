package supervise

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
)

// Programs that do not speak with Sentinels reach the Redis master through the balancers. The
// balancers find out by checks, four a second, that another node is the master. Until then, a
// former master that works refuses writes, and most clients report that as a failure. So in a
// switchover the balancers are told: they close the connections to the old master, and hold new
// ones (await-master.lua of package plan) until the new master is there. What they are told is
// valid until their next check, so nothing has to be undone.

// tellMaster is how often the balancers are told again, because their checks contradict it.
// tellLimit is how long one of them may take.
const tellMaster, tellLimit = 50 * time.Millisecond, 200 * time.Millisecond

// keepFromMaster keeps programs away from a redis node until ctx ends.
func (s *Supervisor) keepFromMaster(ctx context.Context, node string) {
	for ctx.Err() == nil {
		s.leaveMaster(ctx, node)
		clock.Sleep(ctx, tellMaster)
	}
}

// staleCheck is how long a balancer's check that began before the old master became a replica
// may still find it up: two of the shorter intervals (haproxy.cfg of package plan).
const staleCheck = 500 * time.Millisecond

// blockMasterRoute begins to keep programs away from the old master, until endBlocking is called.
func (w *switchover) blockMasterRoute() {
	if w.endBlocking != nil {
		return
	}
	ctx, stop := context.WithCancel(w.sup.ctx)
	w.sup.leaveMaster(ctx, w.from) // before the old master refuses anything
	ended := make(chan struct{})
	w.sup.tasks.Go(func() {
		defer close(ended)
		w.sup.keepFromMaster(ctx, w.from)
	})
	w.endBlocking = sync.OnceFunc(func() {
		stop()
		<-ended
	})
}

// routeToNewMaster directs programs to the new master. The old one is kept closed only for as long
// as an earlier check may still find it up, because the Sentinels may replace the new master.
func (w *switchover) routeToNewMaster() {
	w.sup.leadToMaster(w.sup.ctx, w.to)
	w.routedAt = time.Now()
	if end := w.endBlocking; w.turned && end != nil {
		w.sup.tasks.Go(func() {
			clock.Sleep(w.sup.ctx, staleCheck)
			end()
		})
	}
}

// releaseMasterRoute leaves the way to the master to the balancers' checks again.
func (w *switchover) releaseMasterRoute() {
	if w.endBlocking == nil {
		return
	}
	if !w.routedAt.IsZero() {
		clock.Sleep(w.sup.ctx, time.Until(w.routedAt.Add(staleCheck)))
	}
	w.endBlocking()
	w.endBlocking = nil
	if !w.promoted {
		w.sup.leadToMaster(w.sup.ctx, w.from)
	}
}

// leaveMaster makes all balancers take a redis node for no master, and ends the connections to
// it. HAProxy itself does not end a connection that was opened at that very moment.
func (s *Supervisor) leaveMaster(ctx context.Context, node string) {
	s.tellBalancers(ctx, node, func(ctx context.Context, b *haproxy.Client) error {
		for _, backend := range []string{plan.RedisMasterBackend, plan.RedisMasterAloneBackend} {
			if err := b.SetHealth(ctx, backend, node, false); err != nil {
				return err
			}
			if err := b.EndSessions(ctx, backend, node); err != nil {
				return err
			}
		}
		return nil
	})
}

// leadToMaster makes all balancers take a redis node for the master.
func (s *Supervisor) leadToMaster(ctx context.Context, node string) {
	s.tellBalancers(ctx, node, func(ctx context.Context, b *haproxy.Client) error {
		return b.SetHealth(ctx, plan.RedisMasterBackend, node, true)
	})
}

// tellBalancers tells all balancers something about a redis node, at once. A balancer that
// cannot be told finds out by its checks.
func (s *Supervisor) tellBalancers(ctx context.Context, node string, tell func(context.Context, *haproxy.Client) error) {
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	var all sync.WaitGroup
	for name, b := range s.balancersUp() {
		all.Go(func() {
			err := tell(ctx, b)
			if err != nil && ctx.Err() == nil && !errors.Is(err, haproxy.ErrNoServer) {
				s.log.Debug("cannot tell a balancer of the Redis master", "balancer", name, "node", node, "error", err)
			}
		})
	}
	all.Wait()
}
