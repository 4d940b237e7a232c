package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// enoughLoad is the least share, in percent, of the operations that the rate asks for.
	enoughLoad = 80
	// late is how long after its due time an operation may start. If more than a tenth of the
	// operations before the first fault start later, the machine cannot reach the rate. If more
	// than a hundredth do, it is busy.
	late = 100 * time.Millisecond
)

// assumptions returns, in sentences, why the history cannot be judged.
func assumptions(h History) []string {
	var why []string
	if h.Interrupted {
		why = append(why, "the drill was interrupted before its end")
	}
	if h.SickBefore != "" {
		why = append(why, "the stack was not well before the load: "+h.SickBefore)
	}
	if h.SickAfter != "" {
		why = append(why, "the stack was not well after the last fault: "+h.SickAfter)
	}
	for _, n := range h.Notices {
		node := ""
		if n.Node != "" {
			node = n.Node + ": "
		}
		why = append(why, fmt.Sprintf("something happened at %s that was no part of the drill: %s%s", seconds(n.At), node, n.Text))
	}
	why = append(why, loadProblems(h)...)
	why = append(why, unansweredNodes(h)...)
	for _, f := range h.Faults {
		why = append(why, faultProblems(h, f)...)
	}
	why = append(why, readBack(h)...)
	return why
}

// loadOperations returns the operations of the load on the entry, sorted by Due. It leaves out
// clients that ask one node directly: when that node dies, no balancer sends their requests to
// another one, which is not a failure of the service.
func loadOperations(h History) []Operation {
	ops := slices.Clone(h.Operations)
	ops = slices.DeleteFunc(ops, func(op Operation) bool { return !op.OfLoad() })
	slices.SortStableFunc(ops, func(a, b Operation) int { return cmp.Compare(a.Due, b.Due) })
	return ops
}

// loadProblems returns what is wrong with the load as a whole.
func loadProblems(h History) []string {
	ops := loadOperations(h)
	if len(ops) == 0 {
		return []string{"the history has no operations"}
	}
	var why []string
	span := h.LoadEnd - ops[0].Due
	switch {
	case h.Rate <= 0:
		why = append(why, "the history does not say what rate was asked for")
	case span <= 0:
		why = append(why, "the load took no time")
	}
	if asked := float64(h.Rate) * span.Seconds(); float64(len(ops))*100 < asked*enoughLoad {
		why = append(why, fmt.Sprintf("too little traffic: %s in %s, and %d a second were asked for, which is %.0f",
			plural(len(ops), "operation", "operations"), seconds(span), h.Rate, asked))
	}
	why = append(why, missingKinds(h, ops)...)
	if reached, ok := rateReached(h, ops); !ok {
		why = append(why, reached)
	}
	return why
}

// unansweredNodes returns which nodes never answered the clients that ask them directly.
func unansweredNodes(h History) []string {
	answers := map[string]int{}
	for _, op := range h.Operations {
		if op.Direct {
			answers[op.Entry] += 0
			if op.Outcome == OK {
				answers[op.Entry]++
			}
		}
	}
	var why []string
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if answers[node] == 0 {
			why = append(why, "the clients that ask the node at "+node+" directly got no answer")
		}
	}
	return why
}

// missingKinds returns which kinds of operations are missing from the load.
func missingKinds(h History, ops []Operation) []string {
	var why []string
	if h.OfURLs() {
		for _, url := range h.URLs {
			if !slices.ContainsFunc(ops, func(op Operation) bool { return op.Kind == URL && op.Key == url && op.Outcome == OK }) {
				why = append(why, fmt.Sprintf("%s was never answered as expected", url))
			}
		}
		return why
	}
	for _, kind := range []Kind{Register, Counter, Set} {
		present, read, written := false, false, false
		for _, op := range ops {
			present = present || op.Kind == kind
			read = read || op.Kind == kind && op.read()
			written = written || op.Kind == kind && op.acknowledged()
		}
		switch {
		case !present:
			why = append(why, fmt.Sprintf("no %s was used", kind))
		case !written:
			why = append(why, fmt.Sprintf("no write to a %s was acknowledged", kind))
		case !read:
			why = append(why, fmt.Sprintf("no read of a %s was answered", kind))
		}
	}
	return why
}

// beforeFaults returns the operations that were due before the first fault, and when that began.
func beforeFaults(h History, ops []Operation) ([]Operation, time.Duration) {
	until := h.LoadEnd
	for _, f := range h.Faults {
		until = min(until, f.Began)
	}
	n := slices.IndexFunc(ops, func(op Operation) bool { return op.Due >= until })
	if n < 0 {
		n = len(ops)
	}
	return ops[:n], until
}

// lateness returns the delay within which that percentage of the operations before the first fault
// started, after they were due.
func lateness(h History, ops []Operation, percent int) time.Duration {
	calm, _ := beforeFaults(h, ops)
	var delays []time.Duration
	for _, op := range calm {
		delays = append(delays, op.Start-op.Due)
	}
	slices.Sort(delays)
	return quantile(delays, percent)
}

// rateReached returns true if the rate was reached, or else a sentence about the rate that was.
func rateReached(h History, ops []Operation) (string, bool) {
	by := lateness(h, ops, 90)
	if by <= late {
		return "", true
	}
	calm, until := beforeFaults(h, ops)
	started := 0
	for _, op := range calm {
		if op.Start < until {
			started++
		}
	}
	reached := float64(started) / max(until-ops[0].Due, 1).Seconds()
	return fmt.Sprintf("the rate was not reached: %d operations a second were asked for, %.0f were started before the first fault, one in ten of them %s late or more",
		h.Rate, reached, seconds(by)), false
}

// faultProblems returns what is wrong with a fault, or with the traffic around it.
func faultProblems(h History, f Fault) []string {
	var why []string
	at := fmt.Sprintf("fault %q at %s: ", f.Name, seconds(f.Began))
	if f.Trouble != "" {
		why = append(why, at+f.Trouble)
	}

	if f.Began < 0 {
		return append(why, fmt.Sprintf("fault %q never began", f.Name))
	}
	if f.Evidence == "" {
		why = append(why, at+"it is not known to have happened")
	}
	if f.Undone < 0 {
		why = append(why, at+"it was not undone")
	}
	if f.Healthy < 0 {
		return append(why, at+"the stack was not well again after it")
	}

	before, during, after := 0, 0, 0
	for _, op := range h.Operations {
		switch {
		case !op.OfLoad():
		case op.End < f.Began:
			if op.Outcome == OK {
				before++
			}
		case op.Start <= f.Healthy:
			during++
		case op.Outcome == OK:
			after++
		}
	}

	for _, part := range []struct {
		n    int
		when string
	}{{before, "no operation was answered before it"}, {during, "no operation was under way during it"}, {after, "no operation was answered after it"}} {
		if part.n == 0 {
			why = append(why, at+part.when)
		}
	}
	return why
}

// readBack returns an error text if keys that may have been written were not read in the end.
func readBack(h History) []string {
	var missing []string
	for _, k := range byKey(h) {
		written, read := false, false
		for _, i := range k.ops {
			op := h.Operations[i]
			written = written || op.possible()
			read = read || op.Final && op.read() && op.master()
		}
		if written && !read {
			missing = append(missing, k.name)
		}
	}
	switch n := len(missing); {
	case n == 1:
		return []string{fmt.Sprintf("the key %s was written, and no final read of it was answered", missing[0])}
	case n > 1:
		return []string{fmt.Sprintf("%d keys were written, and no final read of them was answered, the first of which is %s", n, missing[0])}
	}
	return nil
}

// warnings returns what is worth knowing but changes no result.
func warnings(h History, faults []FaultAvailability) []string {
	var lines []string
	ops := loadOperations(h)
	if by := lateness(h, ops, 99); by > late && lateness(h, ops, 90) <= late {
		lines = append(lines, fmt.Sprintf("the machine was busy before the first fault: one in a hundred operations started %s late or more", seconds(by)))
	}
	for i, f := range h.Faults {
		if pause := faults[i].Pause; !f.Promise.Binding && f.Promise.Pause > 0 && pause > f.Promise.Pause {
			lines = append(lines, waited(f, pause))
		}
		if pause := faults[i].Elsewhere; f.Promise.PauseElsewhere > 0 && pause > f.Promise.PauseElsewhere {
			lines = append(lines, fmt.Sprintf("fault %q at %s: a client whose entry was not cut off waited %s, and %s was promised",
				f.Name, seconds(f.Began), seconds(pause), seconds(f.Promise.PauseElsewhere)))
		}
	}
	return lines
}
