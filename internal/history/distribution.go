package history

import (
	"slices"
	"time"
)

// Distribution is how durations are spread.
type Distribution struct {
	Count  int           `json:"count"`
	Median time.Duration `json:"median"`
	P90    time.Duration `json:"p90"`
	Max    time.Duration `json:"max"`
}

// Distribute works out a distribution. Of none, all is zero. The order of the
// durations is of no matter, and they are left as they are.
func Distribute(durations []time.Duration) Distribution {
	sorted := slices.Sorted(slices.Values(durations))
	return Distribution{
		Count:  len(sorted),
		Median: quantile(sorted, 50),
		P90:    quantile(sorted, 90),
		Max:    quantile(sorted, 100),
	}
}

// quantile is the smallest of the sorted durations that percent of them do not
// exceed (nearest rank); 0 if there are none.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
