package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"holdfast/internal/history"
)

const ms = time.Millisecond

// sampleOptions describe a sample history.
type sampleOptions struct {
	length     time.Duration
	rate       int
	clients    int
	failed     int // of those due while the master is away
	unknown    int
	withFaults bool
}

var usual = sampleOptions{length: 40 * time.Second, rate: 500, clients: 64, withFaults: true}

// sample returns a plausible drill: a master is killed after a quarter of the time and clients wait
// 1.2 s; a web node is killed after three fifths, which no client notices. The same options give
// the same history.
func sample(o sampleOptions) (history.History, history.Verdict) {
	chance := rand.New(rand.NewPCG(7, 11))
	began := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	h := history.History{
		ID: "20261125-100000-7", Stack: "web-app", Holdfast: "v0.9.0", Began: began,
		Repeat: "holdfast drill kill-master kill-web --seed 7 --rate " + fmt.Sprint(o.rate),
		Seed:   7, Rate: o.rate, Clients: o.clients, LoadEnd: o.length,
	}
	kill, back := o.length/4, o.length/4+1200*ms
	web := o.length * 3 / 5
	if o.withFaults {
		h.Faults = []history.Fault{
			{
				Name: "kill-master", Targets: []string{"redis-1"}, Promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 3 * time.Second},
				Began: kill - 2*ms, Moments: []time.Duration{kill}, Undone: kill + 1900*ms, Healthy: kill + 4200*ms,
				Evidence: "redis-1 (pid 4711) ended by signal 9; redis-3 called itself master 0.87 s later, in epoch 2",
			},
			{
				Name: "kill-web", Targets: []string{"web-2"}, Promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 250 * ms},
				Began: web - ms, Moments: []time.Duration{web}, Undone: web + 600*ms, Healthy: web + 1100*ms,
				Evidence: "web-2 (pid 4720) ended by signal 9",
			},
		}
	}
	free := make([]time.Duration, o.clients)
	stored := map[string]string{}
	counted := map[string]int64{}
	failed, unknown := 0, 0
	for i := range int(o.length.Seconds() * float64(o.rate)) {
		client := i % o.clients
		due := time.Duration(i) * time.Second / time.Duration(o.rate)
		took := time.Duration(math.Exp(chance.NormFloat64()*0.5) * 900e3)
		op := history.Operation{Client: client, Due: due, Start: max(due, free[client]), Outcome: history.OK, Status: 200, Tries: 1,
			Node: fmt.Sprintf("web-%d", 1+chance.IntN(2))}
		ready := op.Start
		if o.withFaults && op.Start >= kill && op.Start < back {
			ready = back + time.Duration(chance.IntN(30))*ms
		}
		if o.withFaults && op.Start >= web && op.Start < web+20*ms {
			took += 16 * ms
		}
		op.End = ready + took
		free[client] = op.End
		switch k := chance.IntN(10); {
		case k < 4:
			op.Kind, op.Key, op.Verb = history.Register, fmt.Sprintf("r%d", chance.IntN(24)), history.Read
			op.Got, op.Found = stored[op.Key], stored[op.Key] != ""
		case k < 8:
			op.Kind, op.Key, op.Verb = history.Register, fmt.Sprintf("r%d", chance.IntN(24)), history.Write
			op.Value = fmt.Sprintf("c%d-%d", client, i)
			stored[op.Key] = op.Value
		case k < 9:
			op.Kind, op.Key, op.Verb, op.Once = history.Counter, fmt.Sprintf("n%d", chance.IntN(8)), history.Increment, true
			counted[op.Key]++
			op.Number = counted[op.Key]
		default:
			op.Kind, op.Key, op.Verb, op.Value = history.Set, fmt.Sprintf("s%d", chance.IntN(4)), history.Add, fmt.Sprintf("m%d", i)
		}
		if away := due >= kill && due < kill+300*ms; o.withFaults && away && op.Verb != history.Read {
			switch {
			case failed < o.failed:
				failed++
				op.Outcome, op.Status, op.Error, op.End = history.Failed, 503, "no master within 5s", op.Start+700*ms
			case unknown < o.unknown:
				unknown++
				op.Outcome, op.Status, op.Error, op.End = history.Unknown, 504, "sent to Redis and not confirmed in time", op.Start+900*ms
			}
		}
		h.Operations = append(h.Operations, op)
	}
	keys := make([]string, 0, len(stored))
	for key := range stored {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for i, key := range keys {
		at := o.length + time.Second + time.Duration(i)*ms
		h.Operations = append(h.Operations, history.Operation{Client: i % o.clients, Kind: history.Register, Key: key, Verb: history.Read, Final: true,
			Due: at, Start: at, End: at + ms, Outcome: history.OK, Status: 200, Node: "web-1", Found: true, Got: stored[key]})
	}
	slices.SortStableFunc(h.Operations, func(a, b history.Operation) int { return int(a.End - b.End) })
	return h, judged(h)
}

// judged returns a verdict that suits a sample. The real judge is in package history.
func judged(h history.History) history.Verdict {
	v := history.Verdict{Result: history.Holds, Whole: seen(h, 0, h.LoadEnd)}
	v.Checked = history.Checked{Operations: len(h.Operations), Registers: 24, Counters: 8, Sets: 4, ReadBack: 36}
	for _, op := range h.Operations {
		if op.Verb != history.Read && op.Outcome == history.OK {
			v.Checked.Acknowledged++
		}
	}
	for i, f := range h.Faults {
		recovery := 1240 * ms
		if i > 0 {
			recovery = 18 * ms
		}
		cost := history.FaultAvailability{Name: f.Name, Before: seen(h, f.Began-5*time.Second, f.Began),
			During: seen(h, f.Began, f.Began+recovery), After: seen(h, f.Began+recovery, f.Began+recovery+5*time.Second), Recovery: recovery}
		cost.Pause = cost.During.Max
		cost.Elsewhere = cost.Pause
		cost.Silence = 1201 * ms
		if i > 0 {
			cost.Silence = 16 * ms
		}
		v.Faults = append(v.Faults, cost)
	}
	return v
}

// seen returns what clients saw of the load in a span of time.
func seen(h history.History, from, to time.Duration) history.Availability {
	a := history.Availability{From: from, To: to}
	var waits []time.Duration
	for _, op := range h.Operations {
		if op.Final || op.Due < from || op.Due >= to {
			continue
		}
		a.Operations++
		switch op.Outcome {
		case history.OK:
			waits = append(waits, op.End-op.Due)
			if op.End-op.Due > 200*ms {
				a.Held++
			}
		case history.Failed:
			a.Failed++
		default:
			a.Unknown++
		}
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		a.P50, a.P99, a.Max = quantile(waits, 50), quantile(waits, 99), waits[len(waits)-1]
	}
	return a
}

// broken returns a drill that found a lost write and a read of an old value.
func broken() (history.History, history.Verdict) {
	o := usual
	o.failed, o.unknown = 14, 9
	h, v := sample(o)
	v.Result = history.Broken
	v.Why = []string{
		"an acknowledged write is missing: r7 was set to c12-9007 at 9.998 s, and nothing that came after explains what was read in the end",
		"r3 is not linearizable: client 31 read a value after client 8 had been told that another took its place",
	}
	v.Warnings = []string{"the machine was busy: 1.4 % of the operations were sent more than 50 ms after they were due"}
	v.Anomalies = []history.Anomaly{lost(&h), past(&h)}
	h.Notices = []history.Notice{
		{At: 12100 * ms, Node: "redis-1", Text: "came back as a master for 0.2 s before Sentinel made it a replica"},
		{At: 30500 * ms, Node: "sentinel-2", Text: "restarted; nobody asked for it"},
	}
	return h, v
}

// lost adds a write that is missing in the end.
func lost(h *history.History) history.Anomaly {
	n := len(h.Operations)
	op := func(client int, verb history.Verb, start, end time.Duration, value string) history.Operation {
		o := history.Operation{Client: client, Kind: history.Register, Key: "r7", Verb: verb, Due: start, Start: start, End: end,
			Outcome: history.OK, Status: 200, Node: "web-1", Tries: 1}
		if verb == history.Read {
			o.Found, o.Got = true, value
		} else {
			o.Value = value
		}
		return o
	}
	unsure := op(40, history.Write, 9995*ms, 10895*ms, "c40-9012")
	unsure.Outcome, unsure.Status, unsure.Node, unsure.Error = history.Unknown, 504, "web-2", "sent to Redis and not confirmed in time"
	final := op(3, history.Read, 41007*ms, 41008*ms, "c9-8960")
	final.Final = true
	h.Operations = append(h.Operations,
		op(9, history.Write, 9951*ms, 9953*ms, "c9-8960"),
		op(3, history.Read, 9960*ms, 9961*ms, "c9-8960"),
		op(12, history.Write, 9996*ms, 9998*ms, "c12-9007"),
		unsure,
		op(3, history.Read, 9999*ms, 11212*ms, "c9-8960"),
		op(21, history.Read, 11300*ms, 11302*ms, "c9-8960"),
		final)
	return history.Anomaly{What: "lost write", Key: "r7", Operations: []int{n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6},
		Text: "write(c12-9007) was acknowledged at 9.998 s, and the last read found c9-8960, which is older"}
}

// past adds a read of a value that had already been replaced.
func past(h *history.History) history.Anomaly {
	n := len(h.Operations)
	var indices []int
	at := 20 * time.Second
	for i := range 14 {
		start := at + time.Duration(i)*3*ms
		o := history.Operation{Client: []int{8, 31, 44}[i%3], Kind: history.Register, Key: "r3", Verb: history.Write, Value: fmt.Sprintf("c%d-%d", i%3, 4000+i),
			Due: start, Start: start, End: start + time.Duration(2+i%5)*ms, Outcome: history.OK, Status: 200, Node: "web-2"}
		if i%2 == 1 {
			o.Verb, o.Found, o.Got, o.Value = history.Read, true, fmt.Sprintf("c%d-%d", i%3, 4000+i-1), ""
		}
		if i == 6 {
			o.Verb, o.Expect, o.Matched = history.CAS, "c0-4000", false
		}
		if i == 9 {
			o.Outcome, o.Status, o.Error = history.Failed, 503, "no master within 5s"
		}
		h.Operations = append(h.Operations, o)
		indices = append(indices, n+i)
	}
	return history.Anomaly{What: "not linearizable", Key: "r3", Operations: indices,
		Text: "no order of these operations explains every answer"}
}

// missed returns a drill in which more operations failed than allowed.
func missed() (history.History, history.Verdict) {
	o := usual
	o.failed, o.unknown = 30, 12
	h, v := sample(o)
	v.Result = history.Missed
	v.Why = []string{"kill-master redis-1: 30 operations failed, and none may"}
	v.Faults[1].Pause = 312 * ms
	v.Warnings = []string{"kill-web web-2: a client waited 312 ms, promised are 250 ms"}
	return h, v
}

// inconclusive returns a drill that could not be judged.
func inconclusive() (history.History, history.Verdict) {
	h, v := sample(usual)
	v.Result = history.Inconclusive
	h.Faults[1].Evidence, h.Faults[1].Healthy, h.Faults[1].Undone = "", -1, -1
	h.Faults[1].Trouble = "starting web-2 again: fork/exec: resource temporarily unavailable"
	h.SickAfter, h.Interrupted = "web-2 is down", true
	v.Faults[1].Recovery = -1
	v.Why = []string{"nothing shows that kill-web happened", "the stack was not well after the last fault: web-2 is down", "the drill was interrupted"}
	return h, v
}

// course returns a long drill with many faults, most of them one after another, some at once.
func course() (history.History, history.Verdict) {
	o := usual
	o.length, o.failed = 120*time.Second, 6
	h, v := sample(o)
	for i, name := range []string{"kill-web", "kill-replica", "kill-sentinel", "pause-web", "restart-balancer", "kill-supervisor", "switchover",
		"kill-all-sentinels", "slow-link", "full-disk", "pause-master", "partition-master-with-a-minority", "kill-all-redis"} {
		at := time.Duration(4+i*8) * time.Second
		f := history.Fault{Name: name, Targets: []string{fmt.Sprintf("node-%d", i), "another-one"}[:1+i%2], Evidence: "it was seen to happen",
			Began: at, Moments: []time.Duration{at + 5*ms, at + 900*ms}[:1+i%2], Undone: at + 2*time.Second, Healthy: at + time.Duration(3+i%4*3)*time.Second,
			Promise: history.Promise{Failed: history.InFlight, Unknown: history.Any, Pause: time.Second}}
		recovery := time.Duration(20+i*100) * ms
		cost := history.FaultAvailability{Name: name, Recovery: recovery, Before: seen(h, at-3*time.Second, at), During: seen(h, at, at+recovery), After: seen(h, at+recovery, at+recovery+3*time.Second)}
		cost.Pause, cost.Elsewhere, cost.Silence = cost.During.Max, cost.During.Max, 14*ms
		if strings.HasPrefix(name, "partition") {
			f.Entries, f.Promise.PauseElsewhere, cost.Elsewhere = []string{"http://10.0.0.1:6301"}, 4*time.Second, 2220*ms
		}
		h.Faults, v.Faults = append(h.Faults, f), append(v.Faults, cost)
	}
	return h, v
}
