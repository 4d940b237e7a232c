package history

import (
	"fmt"
	"slices"
	"time"
)

// A register is judged in three steps.
//
// 1. Reduction. Operations that carry no information are left out, and those that did happen get
// their latest time. Failed operations and reads without an answer carry none. Values are unique,
// so each answer names the write that it saw:
//   - An unknown write whose value was seen did happen, not later than the first answer that shows it.
//     That answer's end becomes the write's end. The same holds for an unknown compare-and-set: it
//     matched, and so it also shows the value that it expected.
//   - An unknown write whose value was never seen is left out, and with it the compare-and-sets that
//     did not match and ended after it began (unmatched.excused). No correct history is convicted for
//     that. Take any legal order of all operations and leave these out of it. Between such a write and
//     the next one, no operation in that order read or matched its value, or it would have been seen.
//     So no operation is left that could notice that the former value is there instead. A
//     compare-and-set that did not match and ended before the first such write began is ordered before
//     all of them.
//
// So no operation is left that might happen at any later time. For n such writes porcupine's search
// would take 2^n steps.
//
// 2. Spans. All operations that saw or wrote one value, and all values that follow each other by
// compare-and-set, form a block. No other write can be within it. A block's span is from its first
// End to its last Start. If block A's first End is before B's last Start, some of A is before some
// of B, and so all of A is before all of B. If the same holds the other way round, no order exists:
// that proves an anomaly, and names its operations. If no two blocks contradict each other, an
// order exists (P. Gibbons, E. Korach: Testing Shared Memories, SIAM J. Comput. 26(4), 1997, shows
// it for reads and writes). Compare-and-sets that did not match are an exception, because they only
// show what was not there.
//
// 3. Order. That order is built (order.go), the compare-and-sets that did not match are inserted,
// and the whole order is replayed on the model. If that fails, porcupine searches for any order
// (search.go), and its result decides.

// value is one value of a register, or its absence at the beginning.
type value struct {
	text   string
	absent bool
	write  int   // the operation that stored it; -1 for absence
	seen   []int // the operations that show it: reads, and compare-and-sets that matched
	used   bool  // its write certainly happened
	next   *value
	prev   *value // the value that write replaced, if write is a compare-and-set

	first, last     time.Duration // the span: the first End and the last Start
	firstOp, lastOp int           // the operations with these times; -1: the beginning
	end             time.Duration // the latest time at which write was done
}

// register is one key's operations, reduced.
type register struct {
	ops       []Operation
	key       key
	values    []*value          // values whose writes happened, absence first
	named     map[string]*value // every value that an operation wrote or tried to write
	unmatched []unmatched
	loose     time.Duration // the first Start of an unknown write whose value was never seen
	findings  findings
}

// judgeRegister checks that the master's answers are linearizable, and that others are not older
// than the client allowed. It reports whether the search ran out of time.
func judgeRegister(ops []Operation, k key, search time.Duration) (findings, bool) {
	r := &register{ops: ops, key: k, loose: never}
	if !r.mapWrites() {
		return r.findings, false
	}
	r.observe()
	if len(r.findings.anomalies) > 0 { // an answer without a value has no span
		return r.findings, false
	}
	r.resolveWrites()
	r.spans()
	r.collectUnmatched()
	r.contradictions()
	r.checkAge()
	if len(r.findings.anomalies) > 0 {
		return r.findings, false
	}
	return r.findOrder(search)
}

// mapWrites records which operation writes which value. It returns false if two write the same one.
func (r *register) mapWrites() bool {
	r.named = map[string]*value{}
	r.values = []*value{{absent: true, used: true, write: -1, first: always, last: always, firstOp: -1, lastOp: -1, end: always}}
	for _, i := range r.key.ops {
		op := r.ops[i]
		if !op.writes() {
			continue
		}
		if _, twice := r.named[op.Value]; twice {
			r.findings.undecided = append(r.findings.undecided, sameValue(r.key, op.Value))
			return false
		}
		r.named[op.Value] = &value{text: op.Value, write: i}
	}
	return true
}

// lookup returns the value that an answer shows or that a compare-and-set expects. It returns nil
// if no operation wrote it.
func (r *register) lookup(text string, absent bool) *value {
	if absent {
		return r.values[0]
	}
	return r.named[text]
}

// observe records which answers show which value, and adds impossible ones as anomalies.
func (r *register) observe() {
	for _, i := range r.key.ops {
		op := r.ops[i]
		switch {
		case op.read():
			v := r.lookup(op.Got, !op.Found)
			if r.possible(i, v, op.Got) && op.master() {
				v.seen = append(v.seen, i)
			}
		case op.Verb == CAS && op.acknowledged():
			v := r.lookup(op.Expect, op.Expect == "")
			if r.possible(i, v, op.Expect) {
				v.seen = append(v.seen, i)
			}
		}
	}
}

// possible reports whether an answer can show a value. If it cannot, possible adds an anomaly.
func (r *register) possible(i int, v *value, text string) bool {
	op := r.ops[i]
	a := Anomaly{What: ImpossibleRead, Key: r.key.name, Operations: []int{i}}
	who := fmt.Sprintf("client %d %s %q%s at %s", op.Client, found(op), text, fromWhere(op), seconds(op.End))
	switch {
	case v == nil:
		a.Text = who + ", which nobody wrote"
	case v.absent:
		return true
	case r.ops[v.write].Outcome == Failed:
		a.Text, a.Operations = who+", whose writing had failed for certain", append(a.Operations, v.write)
	case !r.ops[v.write].possible():
		a.Text, a.Operations = who+", of a compare-and-set that did not match", append(a.Operations, v.write)
	case r.ops[v.write].Start > op.End && op.Outcome != Unknown: // otherwise checkChainOrder finds it
		a.Text, a.Operations = who+", before anybody had begun to write it", append(a.Operations, v.write)
	default:
		return true
	}
	for op.Outcome == Unknown { // add the operation that proves that it did match
		i = r.named[op.Value].seen[0]
		op, a.Operations = r.ops[i], append(a.Operations, i)
	}
	r.findings.add(a)
	return false
}

// found describes what an operation does with the value that it finds.
func found(op Operation) string {
	switch {
	case op.Outcome == Unknown:
		return "must have matched"
	case op.Verb == CAS:
		return "matched"
	}
	return "read"
}

// resolveWrites finds out which writes happened and links the compare-and-sets. It also records
// from when on there may have been writes whose values were never seen.
func (r *register) resolveWrites() {
	for _, i := range r.key.ops {
		op := r.ops[i]
		if v := r.named[op.Value]; op.acknowledged() || op.possible() && len(v.seen) > 0 {
			r.markUsed(v)
		}
	}
	for _, i := range r.key.ops {
		if op := r.ops[i]; op.possible() && !r.named[op.Value].used {
			r.loose = min(r.loose, op.Start)
		}
	}
}

// markUsed marks a value as used, together with the value that its compare-and-set replaced.
func (r *register) markUsed(v *value) {
	if v.used {
		return
	}
	v.used = true
	r.values = append(r.values, v)
	op := r.ops[v.write]
	if op.Verb != CAS {
		return
	}
	prev := r.lookup(op.Expect, op.Expect == "")
	if op.Outcome == Unknown {
		if !r.possible(v.write, prev, op.Expect) {
			return
		}
		prev.seen = append(prev.seen, v.write)
	}
	v.prev = prev
	r.markUsed(prev)
}

// spans computes the spans of all values.
func (r *register) spans() {
	done := map[*value]bool{}
	for _, v := range r.values {
		r.span(v, done)
	}
}

// span computes the span of one value. An unknown write ends with the first answer that shows its
// value. A compare-and-set that replaced the value may be that answer, so its span is computed
// first.
func (r *register) span(v *value, done map[*value]bool) {
	if done[v] {
		return
	}
	done[v] = true // ends the recursion in a circle, which contradictions finds
	if !v.absent {
		op := r.ops[v.write]
		v.first, v.last, v.firstOp, v.lastOp = never, op.Start, v.write, v.write
		if op.Outcome == OK {
			v.first = op.End
		}
	}
	for _, i := range v.seen {
		if r.ops[i].Verb == CAS {
			r.span(r.named[r.ops[i].Value], done)
		}
		if end := r.end(i); end < v.first {
			v.first, v.firstOp = end, i
		}
		if start := r.ops[i].Start; start > v.last {
			v.last, v.lastOp = start, i
		}
	}
	if !v.absent {
		v.end = r.end(v.write)
	}
}

// end returns the latest time at which an operation was done.
func (r *register) end(i int) time.Duration {
	op := r.ops[i]
	if op.Outcome == Unknown {
		return r.named[op.Value].first
	}
	return op.End
}

// name returns the value as it appears in sentences.
func (v *value) name() string {
	if v.absent {
		return "the key absent"
	}
	return fmt.Sprintf("%q", v.text)
}

// keep returns the operations without -1, which stands for none.
func keep(ops ...int) []int {
	return slices.DeleteFunc(ops, func(i int) bool { return i < 0 })
}
