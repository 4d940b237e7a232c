package supervise

import (
	"time"

	"holdfast/internal/machine"
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
	at    time.Time
	looks int // how many in a row found too much
}

// look takes another look, and returns how many in a row found too much processor time.
func (s *spinner) look(pid int, cpu time.Duration, now time.Time) int {
	took, since := cpu-s.cpu, now.Sub(s.at)
	if pid != s.pid || float64(took) < spinShare*float64(since) {
		s.looks = 0
	} else {
		s.looks++
	}
	s.pid, s.cpu, s.at = pid, cpu, now
	return s.looks
}

// watchSpinning starts the Sentinel of this pod again when it spends its time on nothing. The
// cause is often the same for all of them, and each has a supervisor of its own: a later one
// waits longer.
func (s *Supervisor) watchSpinning() {
	seen := map[string]*spinner{}
	var last time.Time
	for s.wait(spinEvery) {
		for i, name := range s.sentinels() {
			n, _ := s.Status().Node(name)
			if s.isElsewhere(name) || n.State != Up || n.PID == 0 {
				continue
			}
			if seen[name] == nil {
				seen[name] = &spinner{}
			}
			looks := seen[name].look(n.PID, machine.CPU(n.PID)[n.PID], time.Now())
			if looks < spinLooks*(i+1) || time.Since(last) < spinPause {
				continue
			}
			last = time.Now()
			s.log.Warn("a Sentinel spends a core on nothing, as issue 9956 of redis/redis has it: it is started again", "node", name)
			if err := s.renewSentinel(s.ctx, name); err != nil {
				s.log.Warn("it is not started again yet", "node", name, "why", err)
			}
		}
	}
}
