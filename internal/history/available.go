package history

import (
	"cmp"
	"slices"
	"time"
)

const (
	// heldFrom is how long an operation waits before it counts as held.
	heldFrom = 250 * time.Millisecond
	// steady is how long answers have to come as before until a fault counts
	// as recovered from.
	steady = 500 * time.Millisecond
	// near is the latency that is always as before, and nearTimes how many
	// times the 99th percentile before the fault is, too.
	near      = 50 * time.Millisecond
	nearTimes = 4
)

// availability is what the clients of the load saw. Final reads have no part
// in it. Latency counts from when an operation was due, so that one which had
// to wait for its client counts as well.
func availability(h History) (Availability, []FaultAvailability) {
	ops := loaded(h)
	begin := time.Duration(0)
	if len(ops) > 0 {
		begin = ops[0].Due
	}
	whole := between(ops, begin, h.LoadEnd+1)
	whole.To = h.LoadEnd
	answers := ends(ops)
	faults := make([]FaultAvailability, len(h.Faults))
	for i, f := range h.Faults {
		faults[i] = cost(h, ops, answers, f, begin)
	}
	return whole, faults
}

// cost is what one fault cost. Before is from the fault before it, or from the
// beginning; After is until the fault after it, or to the end of the load.
func cost(h History, ops []Operation, answers []time.Duration, f Fault, begin time.Duration) FaultAvailability {
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
	c.Before = between(ops, min(begin, f.Began), f.Began)
	over := next
	if at := recovered(ops, f.Began, next, next < h.LoadEnd, normal(c.Before)); at >= 0 {
		over = at
		c.Recovery = at - f.Began
	}
	c.During = between(ops, f.Began, over)
	c.After = between(ops, over, next)
	until := max(over, f.Healthy)
	// A client begins with the entry that it was at before: when that one is
	// away it ends elsewhere, and has waited for it all the same. Which ones it
	// tried in between nobody recorded: who came by one that was cut off there
	// counts as elsewhere, with what that took.
	before := map[int]string{}
	for _, op := range ops {
		first := before[op.Client] // "" is no entry
		before[op.Client] = op.Entry
		if op.Due <= until && op.End >= f.Began {
			c.Pause = max(c.Pause, op.End-op.Due)
			if !slices.Contains(f.Entries, op.Entry) && !slices.Contains(f.Entries, first) {
				c.Elsewhere = max(c.Elsewhere, op.End-op.Due)
			}
		}
	}
	c.Silence = silence(answers, c.Before.From, f.Began, until, h.LoadEnd)
	return c
}

// normal is the latency up to which an answer comes as before.
func normal(before Availability) time.Duration {
	return max(nearTimes*before.P99, near)
}

// recovered is the first time after began from which on, for as long as steady
// or until the next fault, every operation is answered, and none waits longer
// than limit. An operation that fails, or waits longer, is trouble from when
// it was due until it ended. Negative: there is no such time before next, the
// end of the load or (soon) the beginning of the next fault.
func recovered(ops []Operation, began, next time.Duration, soon bool, limit time.Duration) time.Duration {
	at := began
	for _, op := range ops { // by Due
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

// between sums up the operations due from one time until before another.
func between(ops []Operation, from, to time.Duration) Availability {
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

// ends are the times of all answers, sorted.
func ends(ops []Operation) []time.Duration {
	var times []time.Duration
	for _, op := range ops {
		if op.Outcome == OK {
			times = append(times, op.End)
		}
	}
	slices.Sort(times)
	return times
}

// silence is the longest time without an answer that overlaps from to until.
// Nobody asks before the begin of the load, and after its end.
func silence(answers []time.Duration, begin, from, until, end time.Duration) time.Duration {
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
