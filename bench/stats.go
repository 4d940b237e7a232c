package main

import (
	"math"
	"slices"
)

// spread is the distribution of a figure over the rounds.
type spread struct {
	Median, Min, Max float64
	Low, High        float64 // the first and third quartile
	N                int
}

// over returns the distribution of a figure's values; NaN without values.
func over(values []float64) spread {
	if len(values) == 0 {
		none := math.NaN()
		return spread{none, none, none, none, none, 0}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	quarter := (len(sorted) - 1) / 4
	s := spread{sorted[middle], sorted[0], sorted[len(sorted)-1], sorted[quarter], sorted[len(sorted)-1-quarter], len(sorted)}
	if len(sorted)%2 == 0 {
		s.Median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return s
}

// half returns half the distance between the lowest and the highest value, as a fraction of the
// median.
func (s spread) half() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / 2 / math.Abs(s.Median)
}

// ratio divides two figures round by round, since the two of a round were measured at nearly the
// same time. It leaves out rounds that lack one of them.
func ratio(above, below map[int]float64) spread {
	var values []float64
	for round, a := range above {
		if b, both := below[round]; both && b != 0 {
			values = append(values, a/b)
		}
	}
	return over(values)
}
