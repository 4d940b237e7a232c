package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// What an Anomaly can be.
const (
	LostWrite       = "lost write"        // acknowledged, and missing in the end
	NotLinearizable = "not linearizable"  // no order of a register's operations explains all answers
	WrongCounter    = "wrong counter"     // two increments with one number, or numbers out of order
	WrongSet        = "wrong set"         // a member twice, or seen and then missing
	StaleRead       = "stale read"        // older than what was known to be there, or than the client allowed
	ImpossibleRead  = "impossible answer" // a value that was never written, whose write certainly failed, or that had not been written yet
)

const (
	// searchTime limits how long porcupine may search for an order of one register's operations.
	// Its memory grows with that time.
	searchTime = 2 * time.Second
	// maxSearches is how many registers may use up searchTime. Further registers that need a search
	// stay undecided, so that a verdict comes in finite time.
	maxSearches = 5
	// maxPerKey is how many anomalies of one key are reported.
	maxPerKey = 5
	// never is a time after all others.
	never = time.Duration(1<<63 - 1)
	// always is a time before all others, which are not negative.
	always = time.Duration(-1)
)

// Judge returns what a history shows. The result is the first of these that applies:
//
//   - Broken: at least one answer was wrong, or a write is lost. Anomalies or Fault.Wrong have the
//     proofs.
//   - Missed, if a fault with a Binding promise harmed others (Fault.Harm): that was seen, even if
//     other things cannot be judged.
//   - Inconclusive: an assumption does not hold, so that finding no anomaly would mean nothing.
//   - Missed: more operations failed or are unknown, or a pause was longer, than the faults' promises
//     allow.
//   - Holds: none of these.
//
// The operations may be in any order. A register or set to which two operations write the same
// value is not judged, and the result is Inconclusive. Every key counts as absent at the beginning.
func Judge(h History) Verdict {
	return judge(h, searchTime)
}

func judge(h History, search time.Duration) Verdict {
	v := Verdict{Checked: countChecked(h), Consistency: !h.OfURLs()}
	found := safety(h, search)
	reasons := append(assumptions(h), found.undecided...)
	missed, harm, wrong := promises(h), harms(h), wrongs(h)
	v.Anomalies = found.anomalies
	v.Whole, v.Faults = availability(h)
	missed = append(missed, longPauses(h, v.Faults)...)
	v.Warnings = warnings(h, v.Faults)

	v.Why = append(v.Why, summary(found)...)
	v.Why = append(v.Why, wrong...)
	v.Why = append(v.Why, harm...)
	v.Why = append(v.Why, reasons...)
	v.Why = append(v.Why, missed...)
	switch {
	case len(found.anomalies) > 0, len(wrong) > 0:
		v.Result = Broken
	case len(harm) > 0:
		v.Result = Missed
	case len(reasons) > 0:
		v.Result = Inconclusive
	case len(missed) > 0:
		v.Result = Missed
	default:
		v.Result = Holds
	}
	return v
}

// findings are the results for one key, or for all of them.
type findings struct {
	anomalies []Anomaly
	more      int      // number of anomalies that are left out
	undecided []string // sentences: what could not be judged
}

func (f *findings) add(a Anomaly) {
	if len(f.anomalies) >= maxPerKey {
		f.more++
		return
	}
	slices.Sort(a.Operations)
	a.Operations = slices.Compact(a.Operations)
	f.anomalies = append(f.anomalies, a)
}

func (f *findings) merge(g findings) {
	f.anomalies = append(f.anomalies, g.anomalies...)
	f.more += g.more
	f.undecided = append(f.undecided, g.undecided...)
}

// summary returns a sentence for each kind of anomaly that was found.
func summary(f findings) []string {
	var lines []string
	for _, what := range []string{LostWrite, NotLinearizable, WrongCounter, WrongSet, StaleRead, ImpossibleRead} {
		first, n := -1, 0
		for i, a := range f.anomalies {
			if a.What == what {
				n++
				if first < 0 {
					first = i
				}
			}
		}
		switch {
		case n == 1:
			lines = append(lines, fmt.Sprintf("%s, key %s: %s", what, f.anomalies[first].Key, f.anomalies[first].Text))
		case n > 1:
			lines = append(lines, fmt.Sprintf("%s, %d times; the first of key %s: %s", what, n, f.anomalies[first].Key, f.anomalies[first].Text))
		}
	}
	if f.more > 0 {
		lines = append(lines, fmt.Sprintf("%d more anomalies of the same keys are left out", f.more))
	}
	return lines
}

// key is all operations of one key.
type key struct {
	kind Kind
	name string
	ops  []int // indices in History.Operations, by Start
}

// byKey groups the operations: registers first, and the keys of each kind sorted by name.
func byKey(h History) []key {
	type id struct {
		kind Kind
		name string
	}
	at := map[id]int{}
	var keys []key
	for i, op := range h.Operations {
		k := id{op.Kind, op.Key}
		n, known := at[k]
		if !known {
			n = len(keys)
			at[k] = n
			keys = append(keys, key{kind: op.Kind, name: op.Key})
		}
		keys[n].ops = append(keys[n].ops, i)
	}
	rank := map[Kind]int{Register: 0, Counter: 1, Set: 2}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(rank[a.kind], rank[b.kind]), cmp.Compare(a.name, b.name))
	})
	for _, k := range keys {
		slices.SortStableFunc(k.ops, func(a, b int) int {
			return cmp.Compare(h.Operations[a].Start, h.Operations[b].Start)
		})
	}
	return keys
}

// finalFirst returns the key's operations with the final reads first, so that values missing in the
// end are reported before those missing at some time.
func finalFirst(ops []Operation, k key) []int {
	order := slices.Clone(k.ops)
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case ops[a].Final == ops[b].Final:
			return 0
		case ops[a].Final:
			return -1
		}
		return 1
	})
	return order
}

// safety judges every key.
func safety(h History, search time.Duration) findings {
	var all findings
	exhausted := 0
	for _, k := range byKey(h) {
		switch k.kind {
		case Register:
			limit := search
			if exhausted >= maxSearches {
				limit = 0
			}
			f, timedOut := judgeRegister(h.Operations, k, limit)
			if timedOut {
				exhausted++
			}
			all.merge(f)
		case Counter:
			all.merge(judgeCounter(h.Operations, k))
		case Set:
			all.merge(judgeSet(h.Operations, k))
		}
	}
	all.merge(impossible(h))
	return all
}

// countChecked returns how much there was to judge.
func countChecked(h History) Checked {
	c := Checked{Operations: len(h.Operations)}
	for _, k := range byKey(h) {
		switch k.kind {
		case Register:
			c.Registers++
		case Counter:
			c.Counters++
		case Set:
			c.Sets++
		}
	}
	for _, op := range h.Operations {
		if op.acknowledged() {
			c.Acknowledged++
		}
		if op.Direct {
			c.Direct++
		}
		if op.Final && op.Verb == Read && op.Outcome == OK {
			c.ReadBack++
		}
	}
	return c
}

// writes reports whether the operation would change something.
func (op Operation) writes() bool {
	return op.Verb != Read && op.Verb != Ask
}

// OfLoad reports whether the operation is part of the load on the entry.
func (op Operation) OfLoad() bool { return !op.Final && !op.Direct }

// acknowledged reports whether the client was told that its write succeeded.
func (op Operation) acknowledged() bool {
	return op.writes() && op.Outcome == OK && (op.Verb != CAS || op.Matched)
}

// possible reports whether the operation may have changed something.
func (op Operation) possible() bool {
	return op.acknowledged() || op.writes() && op.Outcome == Unknown
}

// read reports whether the operation is a read that was answered.
func (op Operation) read() bool {
	return op.Verb == Read && op.Outcome == OK
}

// master reports whether the operation was served by the master, which is the default.
func (op Operation) master() bool {
	return op.From == "" || op.From == "master"
}

// asOf returns the time whose state, or a later one, a read has to show.
func (op Operation) asOf() time.Duration {
	if op.master() {
		return op.Start
	}
	return op.Start - op.MaxAge
}

// seconds formats a time of a history for a sentence.
func seconds(t time.Duration) string {
	return fmt.Sprintf("%.3f s", t.Seconds())
}

// plural formats a number of things: 1 operation, 2 operations.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// impossible adds the answers that their client itself found impossible: operations with an answer
// and an Error. For example, an Add may find that its member was there already: it was added twice.
func impossible(h History) findings {
	var f findings
	for i, op := range h.Operations {
		if op.Outcome == OK && op.Error != "" {
			f.add(Anomaly{
				What: ImpossibleRead, Key: op.Key, Operations: []int{i},
				Text: fmt.Sprintf("the answer to client %d's %s, begun at %s, cannot be: %s", op.Client, op.Verb, seconds(op.Start), op.Error),
			})
		}
	}
	return f
}
