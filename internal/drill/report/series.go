package report

import (
	"slices"
	"time"

	"holdfast/internal/history"
)

// mostBuckets is the largest number of buckets on the time axis: each is then about two pixels
// wide.
const mostBuckets = 500

// steps are the possible lengths of a bucket.
var steps = []time.Duration{
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// bucket counts what happened in one step of the time axis.
type bucket struct {
	OK, Failed, Unknown   int // by the step in which the outcome became known
	DueFailed, DueUnknown int // by the step in which the operation was due
	Answered              int // operations that were due in this step and were answered
	P50, P99, Max         time.Duration
}

// series is a drill's load over time.
type series struct {
	Step    time.Duration
	End     time.Duration
	Buckets []bucket
}

// gather counts the operations of the load by time. Outcomes count in the step in which they became
// known. Latency is measured from when an operation was due, and counts in that step: so it shows
// how long a client had to wait that came at that time.
func gather(ops []history.Operation, end time.Duration) series {
	s := series{Step: stepFor(end), End: end}
	n := int((end + s.Step/2) / s.Step) // the last one is up to half a step longer or shorter
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

// stepFor returns the shortest step that does not give too many buckets.
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

// at returns the index of the bucket for a time.
func (s series) at(t time.Duration) int {
	return min(max(int(t/s.Step), 0), len(s.Buckets)-1)
}

// seconds returns the length of a bucket in seconds.
func (s series) seconds(i int) float64 {
	if last := len(s.Buckets) - 1; i == last {
		return max(s.End-time.Duration(last)*s.Step, s.Step/2).Seconds()
	}
	return s.Step.Seconds()
}

// quantile returns the nearest rank of sorted values, for a percentage from 1 to 100.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max((len(sorted)*percent+99)/100-1, 0)]
}

// coarse joins buckets until there are at most that many, for the table below the chart. The
// quantiles of joined buckets are the worst of theirs; the table mentions that.
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
