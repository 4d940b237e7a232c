package history

import (
	"strings"
	"testing"
	"time"
)

func TestWhatFailsHasToBeAllowedByAFault(t *testing.T) {
	// Operation 98 is from 0.980 to 0.985 s, 110 from 1.100 to 1.105 s, 250
	// from 2.500 to 2.505 s; the fault is from 1 to 2 s, its blow at 1 s.
	allow := func(failed, unknown Allowance) func(h *History) {
		return func(h *History) { h.Faults[0].Promise.Failed, h.Faults[0].Promise.Unknown = failed, unknown }
	}
	for _, c := range []struct {
		what    string
		promise func(h *History)
		outcome Outcome
		ops     []int
		want    string // empty: the drill holds
	}{
		{"none may fail, and none does", allow(None, None), Failed, nil, ""},
		{"none may fail, and one does", allow(None, Any), Failed, []int{109}, `fault "web killed" at 1.000 s: 1 operation is failed, and none may be; the first: client 1's read of r, from 1.090 s to 1.095 s, status 503, no master`},
		{"none may be unknown, and two are", allow(Any, None), Unknown, []int{109, 111}, "2 operations are unknown, and none may be"},
		{"any may fail", allow(Any, None), Failed, []int{109, 111}, ""},
		{"any may be unknown", allow(None, Any), Unknown, []int{109, 111}, ""},
		{"a promise that is not there", allow("", ""), Failed, []int{109}, "none may be"},
		{"in flight, and under way at the blow", allow(InFlight, None), Failed, []int{103}, ""},
		{"in flight, and begun after the blow", allow(InFlight, None), Failed, []int{109}, "1 operation is failed, and only those under way at the blow may be"},
		{"in flight, and more than there are clients", allow(InFlight, None), Failed, []int{101, 103, 105}, "3 operations are failed or unknown, and at most 2 can have been under way"},
		{"in flight, of two blows", func(h *History) {
			allow(InFlight, None)(h)
			h.Faults[0].Moments = []time.Duration{time.Second, 1100 * ms}
		}, Failed, []int{101, 103, 109}, ""},
		{"in flight, without moments", func(h *History) {
			allow(InFlight, None)(h)
			h.Faults[0].Moments = nil
		}, Failed, []int{103}, ""},
		{"cut off, and sent to the entry that was", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].Entries = []string{"http://a"}
			h.Operations[109].Entry, h.Operations[111].Entry = "http://a", "http://a"
		}, Failed, []int{103, 109, 111}, ""},
		{"cut off, and sent to another entry", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].Entries = []string{"http://a"}
			h.Operations[109].Entry, h.Operations[111].Entry = "http://a", "http://b"
		}, Failed, []int{109, 111}, "1 operation is failed, and only those under way at the blow may be, and those sent to an entry that was cut off"},
		{"cut off, and passed on to what was", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].DetectionDelay = 100 * ms
			h.Operations[109].Node, h.Operations[109].Status = "", 504
		}, Failed, []int{109}, ""},
		{"cut off, and turned down by a balancer", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].DetectionDelay = 100 * ms
			h.Operations[109].Node = ""
		}, Failed, []int{109}, "1 operation is failed"},
		{"cut off, and passed on when that was over", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].DetectionDelay, h.Faults[0].Undone = 100*ms, 1080*ms
			h.Operations[109].Node, h.Operations[109].Status = "", 504
		}, Failed, []int{109}, "1 operation is failed"},
		{"cut off, and passed on for too long", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].DetectionDelay = 100 * ms
			h.Operations[111].Node, h.Operations[111].Status = "", 504
		}, Failed, []int{111}, "those sent to an entry that was cut off, or, for 0.100 s, passed on to what was"},
		{"cut off, and answered by a node", func(h *History) {
			allow(CutOff, None)(h)
			h.Faults[0].DetectionDelay = 100 * ms
		}, Failed, []int{109}, "1 operation is failed"},
		{"cut off, and no entry is", allow(CutOff, None), Failed, []int{103, 109}, "1 operation is failed, and only those"},
		{"before every fault", allow(Any, Any), Failed, []int{51}, "1 operation is failed or unknown outside of every fault; the first: client 1's read of c"},
		{"after every fault", allow(Any, Any), Unknown, []int{250}, "outside of every fault"},
		{"a binding pause that is kept", func(h *History) { h.Faults[0].Promise.Pause, h.Faults[0].Promise.Binding = time.Second, true }, "", nil, ""},
		{"a binding pause that is not", func(h *History) { h.Faults[0].Promise.Pause, h.Faults[0].Promise.Binding = time.Millisecond, true }, "", nil,
			`fault "web killed" at 1.000 s: a client waited 0.005 s, and 0.001 s was promised`},
		{"a pause that is told only", func(h *History) { h.Faults[0].Promise.Pause = time.Millisecond }, "", nil, ""},
		{"harm, and something that cannot be judged", func(h *History) {
			h.Faults[0].Promise.Binding = true
			h.Faults[0].Harm = []string{"redis-2 became master"}
			h.SickAfter = "no master"
		}, "", nil, `fault "web killed" at 1.000 s: redis-2 became master`},
		{"a second fault that allows it", func(h *History) {
			allow(None, None)(h)
			second := h.Faults[0]
			second.Promise = Promise{Failed: Any}
			h.Faults = append(h.Faults, second)
		}, Failed, []int{109}, ""},
		{"a second fault that allows what is in flight", func(h *History) {
			allow(None, None)(h)
			second := h.Faults[0]
			second.Promise = Promise{Failed: InFlight}
			second.Moments = []time.Duration{1090 * ms}
			h.Faults = append(h.Faults, second)
		}, Failed, []int{109}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := good()
			c.promise(&h)
			for _, i := range c.ops {
				op := &h.Operations[i]
				op.Outcome, op.Error = c.outcome, "no master"
				if op.Status != 504 {
					op.Status = 503
				}
				if c.outcome == Failed && h.Operations[i].writes() {
					t.Fatalf("operation %d is a write, which others saw", i)
				}
			}
			v := Judge(h)
			got := strings.Join(v.Why, "\n")
			switch {
			case c.want == "" && v.Result != Holds, c.want != "" && v.Result != Missed, !strings.Contains(got, c.want):
				t.Errorf("%s: %q, want %q", v.Result, got, c.want)
			}
		})
	}
}
