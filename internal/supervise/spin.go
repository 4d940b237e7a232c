package supervise

import (
	"context"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// A Sentinel can spend all of a core on nothing, and never stops: when a host that it is
// connected to is unreachable for a moment, the kernel reports an error of the socket that
// Sentinel never reads (issue 9956 of redis/redis). It was seen in pods whose addresses
// changed. Sentinel remembers everything in its file, so it is started again.

const (
	// spinEvery is how often the Sentinels' processor time is looked at, and spinLooks how
	// many looks in a row have to find too much of it.
	spinEvery = 5 * time.Second
	spinLooks = 6
	// spinShare is the share of a core that is too much. Sentinel at work takes a hundredth,
	// and in a failover not much more.
	spinShare = 0.4
	// spinPause is the time between two restarts: what else it may be, it is not in a hurry.
	spinPause = 5 * time.Minute
)

// spinner is what is known of one process' processor time.
type spinner struct {
	pid   int
	cpu   time.Duration
	looks int // how many in a row found too much
}

// look takes another look, which was spinEvery after the last one. It reports whether the
// process spins.
func (s *spinner) look(pid int, cpu time.Duration) bool {
	took := cpu - s.cpu
	switch {
	case pid != s.pid, float64(took) < spinShare*float64(spinEvery):
		s.looks = 0
	default:
		s.looks++
	}
	s.pid, s.cpu = pid, cpu
	return s.looks >= spinLooks
}

// watchSpinning starts Sentinels of this machine again that spend their time on nothing.
func (s *Supervisor) watchSpinning() {
	seen := map[string]*spinner{}
	var last time.Time
	for s.wait(spinEvery) {
		var pids []int
		var sentinels []NodeStatus
		for _, n := range s.Status().Nodes {
			if n.Kind == plan.Sentinel && n.State == Up && n.PID != 0 && !s.isElsewhere(n.Name) {
				sentinels, pids = append(sentinels, n), append(pids, n.PID)
			}
		}
		cpu := machine.CPU(pids...)
		for _, n := range sentinels {
			if seen[n.Name] == nil {
				seen[n.Name] = &spinner{}
			}
			if !seen[n.Name].look(n.PID, cpu[n.PID]) || time.Since(last) < spinPause {
				continue
			}
			last = time.Now()
			s.log.Warn("a Sentinel spends a core on nothing, as issue 9956 of redis/redis has it: it is started again", "node", n.Name)
			ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
			if err := s.Do(ctx, n.Name, ActRestart); err != nil && s.ctx.Err() == nil {
				s.log.Error("cannot start it again", "node", n.Name, "error", err)
			}
			cancel()
		}
	}
}
