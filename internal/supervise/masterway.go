package supervise

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/internal/haproxy"
)

// Programs that know no Sentinels reach the Redis master through the balancers. These find out
// by checks, four a second, that another node is the master. Meanwhile a former master that
// works refuses what it is sent, and most clients hand that on as a failure. So in a switchover
// the balancers are told: they close the connections to the old master, and hold new ones
// (await-master.lua of package plan) until the new one is there. What they are told lasts until
// their next check: nothing has to be put back.

// tellMaster is how often the balancers are told again what their checks contradict, and
// tellLimit how long one of them may take to hear it.
const tellMaster, tellLimit = 50 * time.Millisecond, 200 * time.Millisecond

// keepFromMaster keeps programs from a redis node until ctx ends.
func (s *Supervisor) keepFromMaster(ctx context.Context, node string) {
	for ctx.Err() == nil {
		s.tellRedisHealth(ctx, node, false, redisMaster, redisMasterAlone)
		select {
		case <-ctx.Done():
		case <-time.After(tellMaster):
		}
	}
}

// staleCheck is how long a check of a balancer that has begun before the old master was turned
// may still take it for up: two of the shorter intervals (haproxy.cfg of package plan).
const staleCheck = 500 * time.Millisecond

// closeWay keeps programs from the old master.
func (w *switchover) closeWay() {
	if w.endClosing != nil {
		return
	}
	ctx, stop := context.WithCancel(w.sup.ctx)
	w.sup.tellRedisHealth(ctx, w.from, false, redisMaster, redisMasterAlone) // before it refuses anything
	ended := make(chan struct{})
	w.sup.tasks.Go(func() {
		defer close(ended)
		w.sup.keepFromMaster(ctx, w.from)
	})
	w.endClosing = func() {
		stop()
		<-ended
		w.endClosing = nil
	}
}

// openWay leads programs to the new master. The old one is kept closed until endWay.
func (w *switchover) openWay() {
	w.opened = time.Now()
	w.sup.tellRedisHealth(w.sup.ctx, w.to, true, redisMaster)
}

// endWay leaves the way to the balancers' checks again.
func (w *switchover) endWay() {
	if w.endClosing == nil {
		return
	}
	if !w.opened.IsZero() {
		w.sup.wait(time.Until(w.opened.Add(staleCheck)))
	}
	w.endClosing()
	if !w.promoted {
		w.sup.tellRedisHealth(w.sup.ctx, w.from, true, redisMaster)
	}
}

// tellRedisHealth tells all balancers that a redis node is a server of these backends, or is
// none.
func (s *Supervisor) tellRedisHealth(ctx context.Context, node string, up bool, backends ...string) {
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	for name, b := range s.balancersUp() {
		all.Go(func() {
			for _, backend := range backends {
				err := b.SetHealth(ctx, backend, node, up)
				if err != nil && ctx.Err() == nil && !errors.Is(err, haproxy.ErrNoServer) {
					s.log.Debug("cannot tell a balancer of the Redis master; it finds out by its checks", "balancer", name, "node", node, "up", up, "error", err)
				}
			}
		})
	}
}
