package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"holdfast/internal/redis"
)

// succession is what a switchover and the failover of a dead master have in common: one redis
// node becomes the master in the place of another.
type succession struct {
	sup      *Supervisor
	from, to string
	// facts were gathered before anything was changed.
	facts redisFacts
	log   *slog.Logger
	// inStep are the replicas that have the master's data, including the successor.
	inStep []string
	// promoted is true once the successor is the master.
	promoted bool
	// voted is the epoch of the Sentinels' vote; 0: they were not asked for one.
	voted int64
}

func (w *succession) admin(node string) *redis.Admin { return w.sup.admin(node) }
func (w *succession) address(node string) string     { return w.facts.Nodes[node] }

// others returns the replicas that were in step, without the successor.
func (w *succession) others() []string {
	return slices.DeleteFunc(slices.Clone(w.inStep), func(name string) bool { return name == w.to })
}

func (w *succession) askOne(ctx context.Context, sentinel string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit/2)
	defer cancel()
	if err := w.admin(sentinel).Failover(ctx, w.sup.name()); err != nil {
		return fmt.Errorf("ask %s for the failover: %w", sentinel, err)
	}
	return nil
}

// becomesMaster waits until a replica reports that it is the master. If the Sentinels have just
// lost sight of the successor, another replica may be promoted; then that one becomes the
// successor.
func (w *succession) becomesMaster(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found := make(chan string, len(w.inStep))
	for _, name := range w.inStep {
		w.sup.tasks.Go(func() {
			if within(ctx, limit, switchPoll, func(ctx context.Context) bool {
				st, err := w.admin(name).Standing(ctx)
				return err == nil && st.Master
			}) {
				found <- name
			}
		})
	}
	select {
	case name := <-found:
		if w.to != "" && name != w.to {
			w.log.Warn("the Sentinels promoted another replica", "node", name)
		}
		w.to, w.promoted = name, true
	case <-ctx.Done():
	}
	return w.promoted
}

// writeDown records that the successor is the master. It does so before any replica follows it,
// and so before it can acknowledge a write: its Sentinel may take a second to see the
// promotion, and until then no Sentinel's file has it. If power were lost in that second, the
// former master would come back as the master.
//
// The recorded epoch is the one that the Sentinels voted in, or the next one. It is never
// higher than the one that they will give it, so that their later reports are believed.
func (w *succession) writeDown(ctx context.Context) {
	_, before, _ := w.facts.master()
	other, err := w.sup.writeMaster(w.to, max(w.voted, before+1))
	if err == nil {
		if other {
			w.sup.tasks.Go(func() { w.sup.leaveOldMaster(w.sup.ctx) })
		}
		return
	}
	w.log.Error("cannot write down who is the Redis master: the replicas follow it when the Sentinels know", "error", err)
	within(ctx, nameLimit, verifyPoll, w.majorityNamesSuccessor)
}

// majorityNamesSuccessor reports whether a majority of the Sentinels names the successor master.
func (w *succession) majorityNamesSuccessor(ctx context.Context) bool {
	return w.sup.gather(ctx, time.Second).majorityNames(w.address(w.to))
}

// followNewMaster makes a node follow the new master.
func (w *succession) followNewMaster(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	return w.admin(node).Follow(ctx, w.address(w.to))
}

// isInStep reports whether a node is in step with the new master.
func (w *succession) isInStep(ctx context.Context, name string) bool {
	st, err := w.admin(name).Standing(ctx)
	return err == nil && !st.Master && st.Linked && st.MasterAddress == w.address(w.to)
}
