package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// part is a case's measurement of a subject. pair is the two whose figures a goal compares.
type (
	part struct{ scenario, subject string }
	pair [2]part
)

// slice is the greatest length of a measurement in a pair. On a shared machine the speed changes
// from second to second, so two long measurements would not meet the same speed. sliceWarm is the
// load before it, for a server that has already had some.
const slice, sliceWarm = 400 * time.Millisecond, 100 * time.Millisecond

// launched is for how many rounds of pairs the servers keep running. Of two processes of the same
// binary one may be faster by a few percent for as long as it runs, because of its memory layout.
// More rounds with the same process would not show that.
const launched = 5

// pairs returns the pairs of all goals in the closed loop, each once. It leaves out those with
// crowds of connections, which would hardly be open within a slice.
func pairs() []pair {
	var all []pair
	for _, g := range goals {
		p := pair{{g.above.scenario, g.above.subject}, {g.below.scenario, g.below.subject}}
		if g.below == (cellName{}) || slices.Contains(all, p) {
			continue
		}
		if c, _ := p[0].find(); c.kind == closed && !c.crowded() {
			all = append(all, p)
		}
	}
	return all
}

// find returns the case and the subject of a measurement. Both must exist.
func (p part) find() (scenario, subject) {
	c := scenarios[slices.IndexFunc(scenarios, func(c scenario) bool { return c.name == p.scenario })]
	return c, subjects[slices.IndexFunc(subjects, func(s subject) bool { return s.name == p.subject })]
}

// again measures the pairs of the goals many more times, briefly, the two of a pair one right after
// the other: a ratio of figures taken a minute apart shows more about the machine. Servers that no
// pair needs are ended first.
func (b *bench) again(ctx context.Context, wanted map[part]bool) error {
	if b.options.pairs == 0 {
		return nil
	}

	all := slices.DeleteFunc(pairs(), func(p pair) bool { return !wanted[p[0]] || !wanted[p[1]] })
	needed := map[string]bool{}
	for _, p := range all {
		for _, part := range p {
			_, s := part.find()
			needed[s.peer] = true
		}
	}

	for name, s := range b.standing {
		if !needed[name] {
			if err := s.topology.end(); err != nil {
				return err
			}
			delete(b.standing, name)
		}
	}

	b.measure, b.slices = min(b.measure, slice), true
	own := 0
	for round := range b.options.pairs {
		if round > 0 && round%launched == 0 {
			if err := b.standAnew(ctx); err != nil {
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
				c, s := part.find()
				title := fmt.Sprintf("pairs %d of %d", round+1, b.options.pairs)
				if err := b.record(ctx, c, s, b.report.Pairs, own, title); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// standAnew restarts everything that is running.
func (b *bench) standAnew(ctx context.Context) error {
	for name, s := range b.standing {
		if err := s.topology.end(); err != nil {
			return err
		}
		if err := b.stand(ctx, s.peer); err != nil {
			return fmt.Errorf("%s does not stand again: %w", name, err)
		}
	}
	return nil
}
