package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdfast/internal/plan"
)

// A switchover changes settings of redis nodes for a moment. When its supervisor
// dies meanwhile, or a node does not answer in the end, they are put back later.

// usualSettings are the settings that a switchover changes, as each redis node's
// settings file has them.
func (s *Supervisor) usualSettings() map[string]string {
	least := plan.MinReplicas
	if s.stack().Redis.Replicas == 0 {
		least = 0
	}
	return map[string]string{
		"min-replicas-to-write":    strconv.Itoa(least),
		"repl-ping-replica-period": strconv.Itoa(plan.PingReplicas),
		"replica-priority":         strconv.Itoa(usual),
	}
}

// keepSettled puts back what was left. It does not wait for the start of other
// nodes: the master may refuse writes.
func (s *Supervisor) keepSettled() {
	for {
		s.settleRedis(s.ctx)
		if !s.wait(time.Second) {
			return
		}
	}
}

// settleRedis puts back what a switchover left at the redis nodes. It is tried
// until every node that runs has been seen.
func (s *Supervisor) settleRedis(ctx context.Context) {
	if !s.unsettled.Load() || !s.switching.TryLock() {
		return
	}
	defer s.switching.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()

	f := s.gather(ctx, fenceLimit)
	names := slices.DeleteFunc(s.nodesOfKind(plan.Redis), s.isElsewhere)
	failed := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		switch {
		case !f.Running[name]: // its settings file is read at its start
		case !f.answers(name):
			failed[i] = fmt.Errorf("%s does not answer", name)
		case f.Standings[name].Master && f.replaced(name):
			// It must not take writes: the Sentinels turn it soon.
			failed[i] = fmt.Errorf("%s calls itself master beside another one", name)
		default:
			all.Go(func() { failed[i] = s.settleSettings(ctx, name) })
		}
	}
	all.Wait()
	if errors.Join(failed...) == nil {
		s.unsettled.Store(false)
	}
}

func (s *Supervisor) settleSettings(ctx context.Context, name string) error {
	for setting, value := range s.usualSettings() {
		is, err := s.admin(name).Setting(ctx, setting)
		if err != nil {
			return err
		}
		if is == value {
			continue
		}
		s.log.Warn("a setting that a switchover left is put back", "node", name, "setting", setting, "was", is, "now", value)
		if err := s.admin(name).Configure(ctx, map[string]string{setting: value}); err != nil {
			return err
		}
	}
	return nil
}
