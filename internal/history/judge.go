package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// What an Anomaly can be.
const (
	LostWrite       = "lost write"        // acknowledged, and not there in the end
	NotLinearizable = "not linearizable"  // no order of a register's operations explains all answers
	WrongCounter    = "wrong counter"     // two increments with one number, or numbers out of order
	WrongSet        = "wrong set"         // a member twice, or seen and then gone
	StaleRead       = "stale read"        // older than what was known to be there, or than what was asked for
	ImpossibleRead  = "impossible answer" // what nobody wrote, or what certainly failed, or what was yet to come
)

const (
	// searchTime is how long porcupine may search for an order of one
	// register's operations. Its memory grows with it.
	searchTime = 2 * time.Second
	// maxSearches is how many registers may exhaust searchTime; the rest is
	// left undecided at once, so that a verdict comes in finite time.
	maxSearches = 5
	// maxPerKey is how many anomalies of one key are told.
	maxPerKey = 5
	// never is a time after all others.
	never = time.Duration(1<<63 - 1)
	// always is a time before all others, which are not negative.
	always = time.Duration(-1)
)

// Judge says what a history shows.
//
// Broken: at least one answer was wrong, or a write is lost; Anomalies has the
// proofs, or Fault.Wrong. Inconclusive: no proof of that, but an assumption does not hold
// without which "nothing was found" would mean nothing. Missed: more
// operations failed, or are unknown, than the faults' promises allow. Holds:
// none of these. An earlier one of these beats a later one, but for
// what a fault with a Binding promise did to others (Fault.Harm): that was seen,
// whatever could not be judged beside it, and so the result is Missed.
//
// The operations may be in any order. No two of the operations that write may
// have the same value: a register or set of which that is not true is not
// judged, and the result is Inconclusive. Every key is taken to be absent at
// the beginning.
func Judge(h History) Verdict {
	return judge(h, searchTime)
}

func judge(h History, search time.Duration) Verdict {
	v := Verdict{Checked: count(h), Consistency: !h.OfURLs()}
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

// findings are what the look at one key, or at all of them, brought.
type findings struct {
	anomalies []Anomaly
	more      int      // anomalies that are left out
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

// summary says in a sentence for each kind of anomaly how many there are.
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

// byKey groups the operations, registers first, each kind in the order of names.
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

// finalFirst is the key's operations with the final reads first: what is
// missing in the end is told before what was missing once.
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

// safety looks at every key.
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

// count says how much there was to judge.
func count(h History) Checked {
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

// OfLoad reports whether the operation is one of the load on the entry.
func (op Operation) OfLoad() bool { return !op.Final && !op.Direct }

// acknowledged reports whether the client was told that its write is done.
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

// master reports whether the operation was answered by the master, as all are
// that do not say otherwise.
func (op Operation) master() bool {
	return op.From == "" || op.From == "master"
}

// asOf is the time whose state a read has to show, or a later one.
func (op Operation) asOf() time.Duration {
	if op.master() {
		return op.Start
	}
	return op.Start - op.MaxAge
}

// seconds renders a time of a history for a sentence.
func seconds(t time.Duration) string {
	return fmt.Sprintf("%.3f s", t.Seconds())
}

// plural renders a number of things: 1 operation, 2 operations.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// impossible are the answers that cannot be, as their client saw at once: it
// says so in the Error of an operation that was answered. One is that a member
// which nobody has was there before it was added: it was added twice.
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
