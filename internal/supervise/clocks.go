package supervise

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Redis sends its replicas the time of day at which a key expires. A replica whose clock is
// ahead would expire keys too early once it is the master, and one whose clock is behind would
// keep them too long. So among replicas with the same data one with a right clock is preferred:
// an acknowledged write comes before a time to live.

// clocksDiffer is by how much right clocks may differ.
const clocksDiffer = 2 * time.Second

// wrongClocks returns those of the named redis nodes whose clocks are wrong: they differ from
// the median of these nodes' clocks and this host's. A node that does not reply is not among
// them.
func (s *Supervisor) wrongClocks(ctx context.Context, names []string) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	ahead := make([]time.Duration, len(names))
	answered := make([]bool, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		if s.admin(name) == nil {
			continue
		}
		all.Go(func() {
			asked := time.Now()
			there, err := s.admin(name).Clock(ctx)
			ahead[i], answered[i] = there.Sub(asked), err == nil
		})
	}
	all.Wait()

	of := map[string]time.Duration{}
	for i, name := range names {
		if answered[i] {
			of[name] = ahead[i]
		}
	}
	return wrongOf(of)
}

// wrongOf returns the nodes whose clocks are wrong. ahead is how far each clock is ahead of this
// host's.
func wrongOf(ahead map[string]time.Duration) map[string]bool {
	sorted := []time.Duration{0} // this host's own
	for _, d := range ahead {
		sorted = append(sorted, d)
	}
	slices.Sort(sorted)
	low, high := sorted[(len(sorted)-1)/2], sorted[len(sorted)/2]
	wrong := map[string]bool{}
	if high-low > clocksDiffer {
		return wrong // two halves disagree, and nothing tells which one is right
	}
	for name, d := range ahead {
		if (d - low).Abs() > clocksDiffer {
			wrong[name] = true
		}
	}
	return wrong
}
