package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// measurement is that of one subject in one case. pair is the two whose figures a goal compares.
type (
	measurement struct{ scenario, subject string }
	pair        [2]measurement
)

// slice is the greatest length of a measurement in a pair. On a shared machine the speed changes
// from second to second, so two long measurements would not meet the same speed. sliceWarm is the
// load before it, for a server that has already had some.
const slice, sliceWarm = 400 * time.Millisecond, 100 * time.Millisecond

// roundsPerStart is how many rounds of pairs the servers keep running for. Of two processes of the
// same binary one may be faster by a few percent for as long as it runs, because of its memory
// layout. More rounds with the same process would not show that.
const roundsPerStart = 5

// pairs returns the pairs of all goals in the closed loop, each once. It leaves out those with
// crowds of connections, which would hardly be open within a slice.
func pairs() []pair {
	var all []pair
	for _, g := range goals {
		p := pair{{g.above.scenario, g.above.subject}, {g.below.scenario, g.below.subject}}
		if g.below == (cellName{}) || slices.Contains(all, p) {
			continue
		}
		if c, _ := p[0].lookUp(); c.kind == closed && !c.crowded() {
			all = append(all, p)
		}
	}
	return all
}

// lookUp returns the case and the subject of a measurement. Both must exist.
func (p measurement) lookUp() (scenario, subject) {
	c := scenarios[slices.IndexFunc(scenarios, func(c scenario) bool { return c.name == p.scenario })]
	return c, subjects[slices.IndexFunc(subjects, func(s subject) bool { return s.name == p.subject })]
}

// measurePairs measures the pairs of the goals many more times, briefly, the two of a pair one
// right after the other: a ratio of figures taken a minute apart shows more about the machine.
// Servers that no pair needs are ended first.
func (b *bench) measurePairs(ctx context.Context, wanted map[measurement]bool) error {
	if b.options.pairs == 0 {
		return nil
	}

	all := slices.DeleteFunc(pairs(), func(p pair) bool { return !wanted[p[0]] || !wanted[p[1]] })
	needed := map[string]bool{}
	for _, p := range all {
		for _, part := range p {
			_, s := part.lookUp()
			needed[s.peer] = true
		}
	}

	for name, s := range b.running {
		if !needed[name] {
			if err := s.topology.end(); err != nil {
				return err
			}
			delete(b.running, name)
		}
	}

	b.measure, b.slices = min(b.measure, slice), true
	own := 0
	for round := range b.options.pairs {
		if round > 0 && round%roundsPerStart == 0 {
			if err := b.restartPeers(ctx); err != nil {
				return err
			}
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, p := range all {
			if rand.IntN(2) == 0 {
				slices.Reverse(p[:])
			}
			own++ // a subject of several pairs is compared only with the partner measured next to it
			for _, part := range p {
				c, s := part.lookUp()
				title := fmt.Sprintf("pairs %d of %d", round+1, b.options.pairs)
				if err := b.record(ctx, c, s, b.report.Pairs, own, title); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// restartPeers restarts everything that is running.
func (b *bench) restartPeers(ctx context.Context) error {
	for name, s := range b.running {
		if err := s.topology.end(); err != nil {
			return err
		}
		if err := b.startPeer(ctx, s.peer); err != nil {
			return fmt.Errorf("%s does not stand again: %w", name, err)
		}
	}
	return nil
}
