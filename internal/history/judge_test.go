package history

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// good returns a small drill in which everything went well: 100 operations a second for four
// seconds, one fault from 1 s to 2 s, each answer after 5 ms.
func good() History {
	h := History{
		ID: "good", Rate: 100, Clients: 2, LoadEnd: 4 * time.Second,
		Faults: []Fault{{
			Name: "web killed", Promise: Promise{Failed: None, Unknown: InFlight, Pause: 250 * ms},
			Began: time.Second, Moments: []time.Duration{time.Second}, Undone: 1500 * ms, Healthy: 2 * time.Second,
			Evidence: "its process is gone",
		}},
	}
	register, members, number := "", []string(nil), int64(0)
	for n := range 400 {
		op := Operation{Client: n % 2, Outcome: OK, Status: 200, Node: "web-1", Due: time.Duration(n) * 10 * ms}
		op.Start, op.End = op.Due, op.Due+5*ms
		value := fmt.Sprint("v", n)
		switch n % 6 {
		case 0:
			op.Kind, op.Key, op.Verb, op.Value, register = Register, "r", Write, value, value
		case 1:
			op.Kind, op.Key, op.Verb, op.Got, op.Found = Register, "r", Read, register, true
		case 2:
			number++
			op.Kind, op.Key, op.Verb, op.Number = Counter, "c", Increment, number
		case 3:
			op.Kind, op.Key, op.Verb, op.Number, op.Found = Counter, "c", Read, number, true
		case 4:
			members = append(members, value)
			op.Kind, op.Key, op.Verb, op.Value = Set, "s", Add, value
		case 5:
			op.Kind, op.Key, op.Verb, op.Members, op.Found = Set, "s", Read, slices.Clone(members), true
		}
		h.Operations = append(h.Operations, op)
	}
	final := Operation{Verb: Read, Final: true, Found: true, Outcome: OK, Due: 4100 * ms, Start: 4100 * ms, End: 4105 * ms}
	for _, kind := range []Kind{Register, Counter, Set} {
		op := final
		op.Kind, op.Key = kind, string(kind[:1])
		switch kind {
		case Register:
			op.Got = register
		case Counter:
			op.Number = number
		case Set:
			op.Members = members
		}
		h.Operations = append(h.Operations, op)
	}
	return h
}

func TestAGoodDrillHolds(t *testing.T) {
	v := Judge(good())
	if v.Result != Holds || len(v.Why)+len(v.Warnings)+len(v.Anomalies) > 0 {
		t.Fatalf("%s: %v %v %v", v.Result, v.Why, v.Warnings, v.Anomalies)
	}
	want := Checked{Operations: 403, Acknowledged: 200, Registers: 1, Counters: 1, Sets: 1, ReadBack: 3}
	if v.Checked != want {
		t.Errorf("checked %+v, want %+v", v.Checked, want)
	}
}

func TestWhatCannotBeJudgedIsInconclusiveAndSaysWhy(t *testing.T) {
	drop := func(h *History, what func(Operation) bool) {
		h.Operations = slices.DeleteFunc(h.Operations, what)
	}
	for _, c := range []struct {
		what   string
		change func(h *History)
		want   string
	}{
		{"interrupted", func(h *History) { h.Interrupted = true }, "interrupted"},
		{"sick before", func(h *History) { h.SickBefore = "redis-2 is down" }, "not well before the load: redis-2 is down"},
		{"sick after", func(h *History) { h.SickAfter = "redis-2 is down" }, "not well after the last fault: redis-2 is down"},
		{"something else happened", func(h *History) {
			h.Notices = []Notice{{At: 1234 * ms, Node: "redis-1", Text: "its process is another one"}}
		}, "something happened at 1.234 s that was no part of the drill: redis-1: its process is another one"},
		{"no operations", func(h *History) { h.Operations = nil }, "no operations"},
		{"too few operations", func(h *History) { h.Rate = 126 }, "too little traffic: 400 operations in 4.000 s, and 126 a second were asked for, which is 504"},
		{"no rate", func(h *History) { h.Rate = 0 }, "what rate was asked for"},
		{"no time", func(h *History) { h.LoadEnd = 0 }, "the load took no time"},
		{"no set", func(h *History) { h.Rate = 60; drop(h, func(op Operation) bool { return op.Kind == Set }) }, "no set was used"},
		{"no counter was incremented", func(h *History) {
			for i, op := range h.Operations {
				if op.Verb == Increment {
					h.Operations[i].Outcome = Unknown
				}
			}
		}, "no write to a counter was acknowledged"},
		{"no register was read", func(h *History) {
			h.Rate = 80
			drop(h, func(op Operation) bool { return op.Kind == Register && op.Verb == Read && !op.Final })
		}, "no read of a register was answered"},
		{"the machine is too slow", func(h *History) {
			for i := range h.Operations {
				op := &h.Operations[i]
				op.Start += op.Due / 2
				op.End += op.Due / 2
			}
		}, "the rate was not reached: 100 operations a second were asked for, 67 were started before the first fault, one in ten of them 0.445 s late or more"},
		{"no evidence", func(h *History) { h.Faults[0].Evidence = "" }, `fault "web killed" at 1.000 s: it is not known to have happened`},
		{"trouble", func(h *History) { h.Faults[0].Trouble = "kill: no such process" }, "kill: no such process"},
		{"never began", func(h *History) { h.Faults[0].Began = -1 }, "never began"},
		{"not undone", func(h *History) { h.Faults[0].Undone = -1 }, "it was not undone"},
		{"not healthy", func(h *History) { h.Faults[0].Healthy = -1 }, "was not well again"},
		{"nothing before", func(h *History) { h.Faults[0].Began = 0 }, "no operation was answered before it"},
		{"nothing during", func(h *History) { h.Faults[0].Began, h.Faults[0].Healthy = 1006*ms, 1008*ms }, "no operation was under way during it"},
		{"nothing after", func(h *History) { h.Faults[0].Healthy = 3999 * ms }, "no operation was answered after it"},
		{"no final read", func(h *History) { drop(h, func(op Operation) bool { return op.Final && op.Key == "c" }) }, "the key c was written, and no final read of it was answered"},
		{"no final reads", func(h *History) {
			for i := range h.Operations {
				if h.Operations[i].Final {
					h.Operations[i].Outcome = Failed
				}
			}
		}, "3 keys were written"},
		{"final read of a replica", func(h *History) {
			for i := range h.Operations {
				if h.Operations[i].Final && h.Operations[i].Key == "r" {
					h.Operations[i].From = "replica"
				}
			}
		}, "the key r was written"},
		{"one value twice", func(h *History) { h.Operations[6].Value = "v0" }, `two operations write the same value "v0" to the register r`},
		{"one member twice", func(h *History) { h.Operations[10].Value = "v4" }, `two operations write the same value "v4" to the set s`},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := good()
			c.change(&h)
			v := Judge(h)
			if v.Result != Inconclusive || !strings.Contains(strings.Join(v.Why, "\n"), c.want) {
				t.Errorf("%s: %q, want inconclusive: %q", v.Result, v.Why, c.want)
			}
		})
	}
}

func TestASearchThatTakesTooLongIsInconclusive(t *testing.T) {
	at := slices.IndexFunc(judgements, func(j judgement) bool { return j.what == "no order, as only a search finds" })
	h := with(judgements[at].ops...)
	if v := judge(h, 0); v.Result != Inconclusive || !strings.Contains(v.Why[0], "register q") {
		t.Errorf("%s: %q", v.Result, v.Why)
	}
}

func TestAnAnomalyBeatsAFailedAssumption(t *testing.T) {
	h := with(on("q", Register, Read, 10, 20).got("nobody wrote this").final())
	h.Interrupted = true
	h.Faults[0].Promise.Failed = None
	h.Operations[3].Outcome = Failed
	v := Judge(h)
	if v.Result != Broken || len(v.Why) != 3 {
		t.Errorf("%s: %q", v.Result, v.Why)
	}
	if h.Operations = h.Operations[:403]; Judge(h).Result != Inconclusive {
		t.Error("a failed assumption does not beat a missed promise")
	}
}

// Clients that ask one node directly count only for safety.
func TestWhatIsAskedOfANodeDirectlyIsJudgedAndFailsNobody(t *testing.T) {
	direct := func(change func(*Operation)) Operation {
		op := Operation{
			Client: 9, Direct: true, Entry: "http://127.0.0.1:1", Kind: Counter, Key: "c", Verb: Read,
			Due: 3200 * ms, Start: 3200 * ms, End: 3210 * ms, Outcome: OK, Found: true, Number: 54,
		}
		change(&op)
		return op
	}
	for name, c := range map[string]struct {
		ops  []Operation
		want Result
		says string
	}{
		"answered": {[]Operation{direct(func(*Operation) {})}, Holds, ""},
		"its node dies, far from every fault": {[]Operation{direct(func(*Operation) {}), direct(func(op *Operation) {
			op.Verb, op.Outcome, op.Found, op.Number = Increment, Failed, false, 0
		}), direct(func(op *Operation) {
			op.Verb, op.Outcome, op.Found, op.Number, op.End = Increment, Unknown, false, 0, 3999*ms
		})}, Holds, ""},
		"it reads what was replaced long ago": {[]Operation{direct(func(op *Operation) { op.Number = 3 })}, Broken, StaleRead},
		"no node answers":                     {[]Operation{direct(func(op *Operation) { op.Outcome = Failed })}, Inconclusive, "directly got no answer"},
	} {
		h := good()
		before := Judge(h)
		h.Operations = append(h.Operations, c.ops...)
		v := Judge(h)
		if v.Result != c.want || !strings.Contains(strings.Join(v.Why, "\n"), c.says) {
			t.Errorf("%s: %s %v", name, v.Result, v.Why)
		}
		if v.Whole != before.Whole || v.Checked.Direct != len(c.ops) {
			t.Errorf("%s: it is in the availability of the load: %+v, and %+v before; %d are direct", name, v.Whole, before.Whole, v.Checked.Direct)
		}
	}
}
