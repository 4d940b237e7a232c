package report

import (
	"slices"
	"time"

	"holdfast/internal/history"
)

// mostBuckets is how finely the time axis is divided at most: about two
// pixels each.
const mostBuckets = 500

// steps are the lengths that a bucket may have.
var steps = []time.Duration{
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// bucket is what happened in one step of the time axis.
type bucket struct {
	OK, Failed, Unknown   int // outcomes that became known in it
	DueFailed, DueUnknown int // of what was due in it
	Answered              int // of what was due in it, were answered
	P50, P99, Max         time.Duration
}

// series is a drill's load over time.
type series struct {
	Step    time.Duration
	End     time.Duration
	Buckets []bucket
}

// gather counts the load's operations by time. Outcomes stand where they
// became known; latency, from when an operation was due, stands where it was
// due: that is how long somebody had to wait who came at that moment.
func gather(ops []history.Operation, end time.Duration) series {
	s := series{Step: stepFor(end), End: end}
	n := int((end + s.Step/2) / s.Step) // the last one is longer or shorter by half at most
	s.Buckets = make([]bucket, max(n, 1))
	waits := make([][]time.Duration, len(s.Buckets))
	for _, op := range ops {
		if !op.OfLoad() {
			continue
		}
		done, due := &s.Buckets[s.at(op.End)], s.at(op.Due)
		switch op.Outcome {
		case history.OK:
			done.OK++
			waits[due] = append(waits[due], op.End-op.Due)
		case history.Unknown:
			done.Unknown++
			s.Buckets[due].DueUnknown++
		default:
			done.Failed++
			s.Buckets[due].DueFailed++
		}
	}
	for i, w := range waits {
		if len(w) == 0 {
			continue
		}
		slices.Sort(w)
		b := &s.Buckets[i]
		b.Answered, b.P50, b.P99, b.Max = len(w), quantile(w, 50), quantile(w, 99), w[len(w)-1]
	}
	return s
}

// stepFor is the least length of buckets that there are not too many of.
func stepFor(end time.Duration) time.Duration {
	for _, step := range steps {
		if end/step < mostBuckets {
			return step
		}
	}
	step := steps[len(steps)-1]
	for end/step >= mostBuckets {
		step *= 2
	}
	return step
}

// at is the bucket of a time.
func (s series) at(t time.Duration) int {
	return min(max(int(t/s.Step), 0), len(s.Buckets)-1)
}

// seconds is how long a bucket is.
func (s series) seconds(i int) float64 {
	if last := len(s.Buckets) - 1; i == last {
		return max(s.End-time.Duration(last)*s.Step, s.Step/2).Seconds()
	}
	return s.Step.Seconds()
}

// quantile is the nearest rank of sorted values; percent from 1 to 100.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max((len(sorted)*percent+99)/100-1, 0)]
}

// coarse joins buckets until there are at most so many: for the table that
// says the same as the chart. Quantiles of joined buckets are the worst of
// them, which is said there.
func (s series) coarse(most int) series {
	join := (len(s.Buckets) + most - 1) / most
	if second := int(time.Second / s.Step); join < second {
		join = second
	}
	if join <= 1 {
		return s
	}
	c := series{Step: s.Step * time.Duration(join), End: s.End}
	for i, b := range s.Buckets {
		if i%join == 0 {
			c.Buckets = append(c.Buckets, bucket{})
		}
		to := &c.Buckets[len(c.Buckets)-1]
		to.OK += b.OK
		to.Failed += b.Failed
		to.Unknown += b.Unknown
		to.DueFailed += b.DueFailed
		to.DueUnknown += b.DueUnknown
		to.Answered += b.Answered
		to.P50, to.P99, to.Max = max(to.P50, b.P50), max(to.P99, b.P99), max(to.Max, b.Max)
	}
	return c
}
