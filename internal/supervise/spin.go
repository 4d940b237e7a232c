package supervise

import (
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
)

// A Sentinel can get into a state in which it uses a whole core without doing anything, and never
// stops: when a host that it is connected to is unreachable for a moment, the kernel reports an
// error of the socket that Sentinel never reads (redis/redis#9956). It was seen in pods whose
// addresses changed. Sentinel keeps all its memory in its file, so it can be restarted.

const (
	// spinEvery is how often the Sentinels' processor time is read, and spinLooks how many looks
	// in a row have to find too much of it.
	spinEvery = 5 * time.Second
	spinLooks = 6
	// spinShare is the share of a core that is too much. A working Sentinel takes a hundredth, and
	// not much more in a failover.
	spinShare = 0.4
	// spinPause is the least time between two restarts. If there is another cause, restarts are
	// not urgent.
	spinPause = 5 * time.Minute
)

// spinner has the processor time of one process at the last look.
type spinner struct {
	pid   int
	cpu   time.Duration
	at    time.Time
	looks int // how many looks in a row found too much
}

// look adds a look, and returns how many in a row found too much processor time.
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

// watchSpinning restarts the Sentinel of this pod when it uses a core without doing anything.
// The cause often affects all Sentinels, which have supervisors of their own; so a Sentinel
// with a higher number waits longer.
func (s *Supervisor) watchSpinning() {
	seen := map[string]*spinner{}
	var last time.Time
	for clock.Sleep(s.ctx, spinEvery) {
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
