package drill

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
)

// pool is the faults that there are to choose from: all of a round, unless they
// are drawn.
func (c Config) pool() ([]fault, error) {
	var chosen []fault
	for _, name := range c.Faults {
		f, ok := find(name)
		if !ok {
			return nil, &UnknownFaultError{name, nearest(name)}
		}
		chosen = append(chosen, f)
	}
	if len(chosen) == 0 {
		chosen = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
			switch {
			case c.Random:
				return f.hosts || f.disk
			case c.Repeat > 0:
				return f.double || f.hosts || f.disk
			}
			return !f.course
		})
	}
	return chosen, nil
}

// schedule is the faults of one round.
func (c Config) schedule(round int) ([]fault, error) {
	chosen, err := c.pool()
	if err != nil || !c.Random {
		return chosen, err
	}
	r := rand.New(rand.NewPCG(uint64(c.Seed)+uint64(round), 0))
	var drawn []fault
	for range max(1, int(c.For/eachTakes)) {
		drawn = append(drawn, chosen[r.IntN(len(chosen))])
	}
	return drawn, nil
}

// eachTakes is about how long one fault of a random schedule takes.
const eachTakes = 8 * time.Second

// needs says whether any of the faults that may come needs hosts or disks of its
// own: all rounds are of one stack.
func (c Config) needs() (hosts, disks bool) {
	chosen, _ := c.pool()
	for _, f := range chosen {
		hosts, disks = hosts || f.hosts, disks || f.disk
	}
	return hosts, disks
}

// nearest is the name that another most likely stands for; empty: none is near.
func nearest(name string) string {
	best, least := "", 1+len(name)/3
	for _, f := range faults {
		if d := levenshtein.ComputeDistance(name, f.name); d < least {
			best, least = f.name, d
		}
	}
	if best == "" {
		for _, f := range faults {
			if strings.Contains(f.name, name) {
				return f.name
			}
		}
	}
	return best
}
