package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
)

// A switchover changes settings of redis nodes for a short time. If its supervisor dies
// meanwhile, or if a node does not answer at the end, the settings are put back later.

// usualSettings returns the settings that a switchover changes, with the values that a redis node
// has otherwise: those of its settings file. replica-priority is not among them until the node has had
// its first copy.
func (s *Supervisor) usualSettings(ctx context.Context, node string) map[string]string {
	least := plan.MinReplicas
	if s.stack().Redis.Replicas == 0 {
		least = 0
	}
	settings := map[string]string{
		"min-replicas-to-write":    strconv.Itoa(least),
		"repl-ping-replica-period": strconv.Itoa(plan.PingReplicas),
	}
	if s.hasFirstCopy(ctx, node) {
		settings["replica-priority"] = strconv.Itoa(usual)
	}
	return settings
}

// keepSettled puts back settings that a switchover left. It does not wait for the start of
// other nodes, because the master may be refusing writes.
func (s *Supervisor) keepSettled() {
	looks := 0
	for {
		if s.hosts.apart {
			looks = s.lookForLeft(s.ctx, looks)
		}
		s.settleRedis(s.ctx)
		if !clock.Sleep(s.ctx, time.Second) {
			return
		}
	}
}

// leftLooks is how many looks in a row, one second apart, have to find an unusual setting
// before it is put back. A switchover takes less time: see handOverLimit.
const leftLooks = 30

// lookForLeft looks for settings that the supervisor of another pod left at this pod's redis
// nodes, because it ended during a switchover. Nobody else knows about them, and with a
// priority that stays the Sentinels would promote a replica that lacks writes. looks is the
// number of looks in a row that found something; lookForLeft returns the new number.
func (s *Supervisor) lookForLeft(ctx context.Context, looks int) int {
	ctx, cancel := context.WithTimeout(ctx, 2*fenceLimit)
	defer cancel()
	left := slices.ContainsFunc(s.nodesOfKind(plan.Redis), func(name string) bool {
		return !s.isElsewhere(name) && s.isUnusual(ctx, name)
	})
	if !left || s.gather(ctx, fenceLimit).failing() {
		return 0
	}
	if looks++; looks < leftLooks {
		return looks
	}
	s.unsettled.Store(true)
	return 0
}

// isUnusual reports whether one of the settings that a switchover changes has another value
// than usual.
func (s *Supervisor) isUnusual(ctx context.Context, name string) bool {
	for setting, value := range s.usualSettings(ctx, name) {
		is, err := s.admin(name).Setting(ctx, setting)
		if err != nil {
			return false // it is asked again at the next look
		}
		if is != value {
			return true
		}
	}
	return false
}

// settleRedis puts back what a switchover left at the redis nodes. It is called again until
// every running node could be checked.
func (s *Supervisor) settleRedis(ctx context.Context) {
	if !s.unsettled.Load() || s.copying.Load() || !s.switching.TryLock() {
		return
	}
	defer s.switching.Unlock()
	s.unsettled.Store(false) // before the look: a node that becomes ready meanwhile sets it again
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()

	f := s.gather(ctx, fenceLimit)
	names := slices.DeleteFunc(s.nodesOfKind(plan.Redis), s.isElsewhere)
	failed := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		switch {
		case !f.Running[name]: // it will read its settings file when it starts
		case !f.answers(name):
			failed[i] = fmt.Errorf("%s does not answer", name)
		case f.Standings[name].Master && f.replaced(name):
			// It must not take writes, and the Sentinels will make it a replica soon.
			failed[i] = fmt.Errorf("%s calls itself master beside another one", name)
		default:
			all.Go(func() { failed[i] = s.settleSettings(ctx, name) })
		}
	}
	all.Wait()
	if errors.Join(failed...) != nil {
		s.unsettled.Store(true)
	}
}

func (s *Supervisor) settleSettings(ctx context.Context, name string) error {
	if !s.hasFirstCopy(ctx, name) { // its priority may be one that a switchover left
		if err := s.putPriorityBack(ctx, name); err != nil {
			return err
		}
	}
	for setting, value := range s.usualSettings(ctx, name) {
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
