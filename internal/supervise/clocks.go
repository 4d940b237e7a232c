package supervise

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Redis gives its replicas the end of a key's life as a time of day. A replica whose clock is
// ahead would end keys before their time once it is the master, and one whose clock is behind
// would keep them for longer. So a replica whose clock is right is preferred, among those
// with the same data: what was acknowledged comes before a time to live.

// clocksDiffer is by how much clocks may differ that are right.
const clocksDiffer = 2 * time.Second

// wrongClocks returns those of some redis nodes whose clocks are wrong: they differ from the
// middle one of all these nodes and of this host. One that does not tell is not among them.
func (s *Supervisor) wrongClocks(ctx context.Context, names []string) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	ahead := make([]time.Duration, len(names))
	told := make([]bool, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		if s.admin(name) == nil {
			continue
		}
		all.Go(func() {
			asked := time.Now()
			there, err := s.admin(name).Clock(ctx)
			ahead[i], told[i] = there.Sub(asked), err == nil
		})
	}
	all.Wait()

	of := map[string]time.Duration{}
	for i, name := range names {
		if told[i] {
			of[name] = ahead[i]
		}
	}
	return wrongOf(of)
}

// wrongOf returns the nodes whose clocks are wrong, by how far each is ahead of this host's.
func wrongOf(ahead map[string]time.Duration) map[string]bool {
	sorted := []time.Duration{0} // this host's own
	for _, d := range ahead {
		sorted = append(sorted, d)
	}
	slices.Sort(sorted)
	low, high := sorted[(len(sorted)-1)/2], sorted[len(sorted)/2]
	wrong := map[string]bool{}
	if high-low > clocksDiffer {
		return wrong // one half says this, and the other half that
	}
	for name, d := range ahead {
		if (d - low).Abs() > clocksDiffer {
			wrong[name] = true
		}
	}
	return wrong
}
