package history

import (
	"strings"
	"testing"
	"time"
)

// steadily returns a load of 100 operations a second for ten seconds, each answered after 4 ms, or
// later if wait returns more.
func steadily(wait func(due time.Duration) time.Duration) []Operation {
	var ops []Operation
	for due := time.Duration(0); due < 10*time.Second; due += 10 * ms {
		op := Operation{Kind: Register, Verb: Read, Key: "r", Outcome: OK, Due: due, Start: due, End: due + 4*ms}
		if w := wait(due); w > 0 {
			op.End = due + w
		}
		ops = append(ops, op)
	}
	return ops
}

// until returns a wait function: operations due from a time on wait until t.
func until(from, t time.Duration) func(due time.Duration) time.Duration {
	return func(due time.Duration) time.Duration {
		if due >= from && due < t {
			return max(t-due, 4*ms)
		}
		return 0
	}
}

func TestAvailabilityOfAFaultThatHoldsRequests(t *testing.T) {
	h := History{LoadEnd: 10 * time.Second, Operations: steadily(until(4*time.Second, 5*time.Second)),
		Faults: []Fault{{Name: "master killed", Began: 3999 * ms, Healthy: 6 * time.Second}}}
	whole, faults := availability(h)
	if whole != (Availability{To: 10 * time.Second, Operations: 1000, Held: 76, P50: 4 * ms, P99: 900 * ms, Max: time.Second}) {
		t.Errorf("whole %+v", whole)
	}
	f := faults[0]
	if f.Before != (Availability{To: 3999 * ms, Operations: 400, P50: 4 * ms, P99: 4 * ms, Max: 4 * ms}) {
		t.Errorf("before %+v", f.Before)
	}
	if f.Pause != time.Second || f.Silence != 1006*ms || f.Recovery != 1001*ms+1 {
		t.Errorf("pause %v, silence %v, recovery %v", f.Pause, f.Silence, f.Recovery)
	}
	if d := f.During; d.From != 3999*ms || d.To != 5*time.Second+1 || d.Operations != 101 || d.Held != 76 || d.Max != time.Second {
		t.Errorf("during %+v", d)
	}
	if a := f.After; a.From != 5*time.Second+1 || a.To != 10*time.Second || a.Held != 0 || a.P99 != 4*ms {
		t.Errorf("after %+v", a)
	}
}

// Clients that wait for the end of a cut at an entry on its wrong side are told from the others.
func TestThePauseElsewhereIsWithoutTheEntriesThatWereCutOff(t *testing.T) {
	const cut, well = "http://10.0.0.1", "http://10.0.0.2"
	ops := steadily(func(due time.Duration) time.Duration {
		switch due {
		case 4 * time.Second:
			return 3 * time.Second
		case 4010 * ms:
			return 2 * time.Second
		case 4020 * ms:
			return 2900 * ms
		case 4030 * ms:
			return 1900 * ms
		}
		return 0
	})
	for i := range ops {
		ops[i].Client, ops[i].Entry = 1, well
		switch ops[i].Due {
		case 4 * time.Second:
			ops[i].Client, ops[i].Entry = 2, cut
		case 4020 * ms: // by the same client, which ends at another entry
			ops[i].Client, ops[i].Entry = 2, well
		case 4030 * ms: // and stays there
			ops[i].Client, ops[i].Entry = 2, well
		}
	}
	h := History{LoadEnd: 10 * time.Second, Operations: ops,
		Faults: []Fault{{Name: "cut", Began: 3999 * ms, Healthy: 8 * time.Second, Entries: []string{cut}}}}
	_, faults := availability(h)
	if f := faults[0]; f.Pause != 3*time.Second || f.Elsewhere != 2*time.Second {
		t.Errorf("pause %v, elsewhere %v, want 3s and 2s", f.Pause, f.Elsewhere)
	}
	h.Faults[0].Promise = Promise{Pause: 4 * time.Second, PauseElsewhere: 1500 * ms}
	if lines := warnings(h, faults); len(lines) != 1 || !strings.Contains(lines[0], "whose entry was not cut off waited 2.000 s, and 1.500 s was promised") {
		t.Errorf("it warns %q", lines)
	}
	h.Faults[0].Promise.PauseElsewhere = 2 * time.Second
	if lines := warnings(h, faults); len(lines) != 0 {
		t.Errorf("what is kept is warned of: %q", lines)
	}
	h.Faults[0].Entries = nil
	if _, faults := availability(h); faults[0].Elsewhere != faults[0].Pause {
		t.Errorf("no entry was cut off: pause %v, elsewhere %v", faults[0].Pause, faults[0].Elsewhere)
	}
}

func TestRecovery(t *testing.T) {
	quiet := func(time.Duration) time.Duration { return 0 }
	at4 := Fault{Began: 4 * time.Second, Healthy: 6 * time.Second}
	for _, c := range []struct {
		what   string
		wait   func(time.Duration) time.Duration
		change func(h *History)
		want   time.Duration
	}{
		{"nothing is seen of the fault", quiet, func(h *History) {}, 0},
		{"a little slower", func(due time.Duration) time.Duration {
			if due > 4*time.Second {
				return 50 * ms
			}
			return 0
		}, func(h *History) {}, 0},
		{"too slow for good", func(due time.Duration) time.Duration {
			if due > 4*time.Second {
				return 51 * ms
			}
			return 0
		}, func(h *History) {}, -1},
		{"one is stuck", func(due time.Duration) time.Duration {
			if due == 4100*ms {
				return 3 * time.Second
			}
			return 0
		}, func(h *History) {}, 3100*ms + 1},
		{"one fails after 490 ms", quiet, func(h *History) { h.Operations[449].Outcome = Failed }, 494*ms + 1},
		{"one fails after 510 ms", quiet, func(h *History) { h.Operations[451].Outcome = Failed }, 0},
		{"one that was under way fails", quiet, func(h *History) {
			h.Operations[399].Outcome = Unknown
			h.Operations[399].End = 4200 * ms
		}, 200*ms + 1},
		{"one that ended before fails", quiet, func(h *History) { h.Operations[399].Outcome = Failed }, 0},
		{"the load ends too soon to know", until(9*time.Second, 9600*ms), func(h *History) { h.Faults[0].Began = 9 * time.Second; h.Faults[0].Healthy = 9900 * ms }, -1},
		{"the next fault begins before half a second", until(5*time.Second, 9*time.Second), func(h *History) {
			h.Operations[402].Outcome = Failed
			h.Faults = append(h.Faults, Fault{Began: 4300 * ms, Healthy: 9500 * ms})
		}, 24*ms + 1},
		{"it never began", quiet, func(h *History) { h.Faults[0].Began = -1 }, -1},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := History{LoadEnd: 10 * time.Second, Operations: steadily(c.wait), Faults: []Fault{at4}}
			c.change(&h)
			_, faults := availability(h)
			if faults[0].Recovery != c.want {
				t.Errorf("recovery %v, want %v", faults[0].Recovery, c.want)
			}
		})
	}
}

func TestAPauseLongerThanPromisedIsAWarning(t *testing.T) {
	h := good()
	h.Operations[101].End += 300 * ms
	v := Judge(h)
	if v.Result != Holds || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "a client waited 0.305 s, and 0.250 s was promised") {
		t.Errorf("%s %q %q", v.Result, v.Why, v.Warnings)
	}
	h.Faults[0].Promise.Pause = 0
	if v := Judge(h); len(v.Warnings) != 0 {
		t.Errorf("nothing was promised: %q", v.Warnings)
	}
}

func TestABusyMachineIsAWarning(t *testing.T) {
	h := good()
	for _, i := range []int{7, 19, 31} { // reads of the register
		h.Operations[i].Start += 120 * ms
		h.Operations[i].End += 120 * ms
		h.Operations[i].Got = h.Operations[i+12].Got
	}
	v := Judge(h)
	if len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "one in a hundred operations started 0.120 s late or more") {
		t.Errorf("%s %q %q", v.Result, v.Why, v.Warnings)
	}
}

func TestDistribution(t *testing.T) {
	for _, c := range []struct {
		of   []time.Duration
		want Distribution
	}{
		{nil, Distribution{}},
		{[]time.Duration{3}, Distribution{1, 3, 3, 3}},
		{[]time.Duration{2, 1}, Distribution{2, 1, 2, 2}},
		{[]time.Duration{5, 1, 4, 2, 3}, Distribution{5, 3, 5, 5}},
		{[]time.Duration{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, Distribution{10, 5, 9, 10}},
	} {
		if got := Distribute(c.of); got != c.want {
			t.Errorf("of %v: %+v, want %+v", c.of, got, c.want)
		}
		if len(c.of) > 2 && c.of[0] < c.of[1] {
			t.Error("the durations were moved")
		}
	}
}
