package history

import (
	"slices"
	"time"
)

// Distribution describes how durations are spread.
type Distribution struct {
	Count  int           `json:"count"`
	Median time.Duration `json:"median"`
	P90    time.Duration `json:"p90"`
	Max    time.Duration `json:"max"`
}

// Distribute returns the distribution of some durations, in any order; it does not change them.
// Without durations, all values are zero.
func Distribute(durations []time.Duration) Distribution {
	sorted := slices.Sorted(slices.Values(durations))
	return Distribution{
		Count:  len(sorted),
		Median: quantile(sorted, 50),
		P90:    quantile(sorted, 90),
		Max:    quantile(sorted, 100),
	}
}

// quantile returns the smallest of the sorted durations that at least percent of them do not exceed
// (nearest rank); 0 if there are none.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
