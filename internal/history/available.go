package history

import (
	"cmp"
	"slices"
	"time"
)

const (
	// heldFrom is how long an operation has to wait to count as held.
	heldFrom = 250 * time.Millisecond
	// steady is how long answers have to come as before the fault, until it counts as recovered.
	steady = 500 * time.Millisecond
	// An answer comes as before if its latency is at most near, or at most nearTimes the 99th
	// percentile before the fault.
	near      = 50 * time.Millisecond
	nearTimes = 4
)

// availability returns what the clients of the load saw. Final reads do not count. Latency is
// measured from when an operation was due, so that it includes the time for which the operation had
// to wait for its client.
func availability(h History) (Availability, []FaultAvailability) {
	ops := loadOperations(h)
	begin := time.Duration(0)
	if len(ops) > 0 {
		begin = ops[0].Due
	}
	whole := availabilityBetween(ops, begin, h.LoadEnd+1)
	whole.To = h.LoadEnd
	answers := answerTimes(ops)
	faults := make([]FaultAvailability, len(h.Faults))
	for i, f := range h.Faults {
		faults[i] = faultCost(h, ops, answers, f, begin)
	}
	return whole, faults
}

// faultCost returns what one fault cost. Before begins after the previous fault, or with the load.
// After ends with the next fault, or with the load.
func faultCost(h History, ops []Operation, answers []time.Duration, f Fault, begin time.Duration) FaultAvailability {
	c := FaultAvailability{Name: f.Name, Recovery: -1}
	if f.Began < 0 {
		return c
	}
	next := h.LoadEnd
	for _, other := range h.Faults {
		if other.Began > f.Began {
			next = min(next, other.Began)
		} else if other.Began < f.Began && other.Healthy >= 0 && other.Healthy <= f.Began {
			begin = max(begin, other.Healthy)
		}
	}

	next = max(next, f.Began)
	c.Before = availabilityBetween(ops, min(begin, f.Began), f.Began)
	over := next
	if at := recovered(ops, f.Began, next, next < h.LoadEnd, normalLatency(c.Before)); at >= 0 {
		over = at
		c.Recovery = at - f.Began
	}

	c.During = availabilityBetween(ops, f.Began, over)
	c.After = availabilityBetween(ops, over, next)
	until := max(over, f.Healthy)
	// A client begins at the entry where it was before. If that entry is cut off, the client ends
	// at another one, and has waited because of the cut all the same. The history does not record
	// the entries in between: a client that tried a cut-off one only in between counts as
	// elsewhere, with the time that it took.
	before := map[int]string{}
	for _, op := range ops {
		first := before[op.Client] // "" is not an entry
		before[op.Client] = op.Entry
		if op.Due <= until && op.End >= f.Began {
			c.Pause = max(c.Pause, op.End-op.Due)
			if !slices.Contains(f.Entries, op.Entry) && !slices.Contains(f.Entries, first) {
				c.Elsewhere = max(c.Elsewhere, op.End-op.Due)
			}
		}
	}
	c.Silence = longestSilence(answers, c.Before.From, f.Began, until, h.LoadEnd)
	return c
}

// normalLatency returns the latency up to which an answer counts as coming as before.
func normalLatency(before Availability) time.Duration {
	return max(nearTimes*before.P99, near)
}

// recovered returns the first time after began from which all operations are answered within limit,
// for as long as steady or until the next fault. An operation that fails or waits longer is trouble
// from when it was due until it ended. The result is negative if there is no such time before next,
// which is the end of the load or, with soon, the beginning of the next fault.
func recovered(ops []Operation, began, next time.Duration, soon bool, limit time.Duration) time.Duration {
	at := began
	for _, op := range ops { // sorted by Due
		if op.Outcome == OK && op.End-op.Due <= limit || op.End < began {
			continue
		}
		if op.Due >= at+steady || op.Due > next {
			break
		}
		at = max(at, op.End+1)
	}
	if at+steady <= next || soon && at <= next {
		return at
	}
	return -1
}

// availabilityBetween sums up the operations due from one time until before another.
func availabilityBetween(ops []Operation, from, to time.Duration) Availability {
	a := Availability{From: from, To: to}
	var latencies []time.Duration
	for _, op := range ops {
		if op.Due < from || op.Due >= to {
			continue
		}
		a.Operations++
		switch op.Outcome {
		case Failed:
			a.Failed++
		case Unknown:
			a.Unknown++
		case OK:
			latencies = append(latencies, op.End-op.Due)
			if op.End-op.Due >= heldFrom {
				a.Held++
			}
		}
	}
	slices.SortFunc(latencies, cmp.Compare[time.Duration])
	a.P50, a.P99, a.Max = quantile(latencies, 50), quantile(latencies, 99), quantile(latencies, 100)
	return a
}

// answerTimes returns the times of all answers, sorted.
func answerTimes(ops []Operation) []time.Duration {
	var times []time.Duration
	for _, op := range ops {
		if op.Outcome == OK {
			times = append(times, op.End)
		}
	}
	slices.Sort(times)
	return times
}

// longestSilence returns the longest time without an answer that overlaps the time from from to
// until. Before begin and after end there is no load.
func longestSilence(answers []time.Duration, begin, from, until, end time.Duration) time.Duration {
	var longest time.Duration
	last := begin
	for _, at := range append(slices.Clone(answers), end) {
		if at >= from && last <= until {
			longest = max(longest, at-last)
		}
		last = at
	}
	return longest
}
