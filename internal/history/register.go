package history

import (
	"fmt"
	"slices"
	"time"
)

// A register is judged in three steps.
//
// 1. Reduction. What says nothing is left out, and what did happen gets its
// latest time. Failed operations and reads without an answer say nothing.
// Values are unique, so that each answer names the write that it saw:
//   - An unknown write whose value somebody saw did happen, and not later than
//     the first answer that shows it, which is its end. So it is with an
//     unknown compare-and-set: it matched, and so showed what it expected.
//   - An unknown write whose value nobody saw is left out, and with it the
//     compare-and-sets that did not match and ended after it began
//     (unmatched.excused). No history is convicted for that: take any legal
//     order of all operations, and leave these out of it. From such a write to
//     the next one, nobody in that order read or matched what was there, or it
//     would have been seen; so nobody is left who could notice that the value
//     of before is there instead. A compare-and-set that did not match and
//     ended before the first such write began stands before all of them.
//
// Nothing is left open to the end of time, where porcupine's search would take
// 2^n steps for n open writes.
//
// 2. Spans. All operations that saw or wrote one value, and all values that
// follow one from the other by compare-and-set, are together a block, and no
// other write can be in its midst. A block's span is from its first End to its
// last Start. Where block A's first End is before B's last Start, some of A is
// before some of B, and so all of A is before all of B. If the same holds the
// other way round, no order exists: that is the proof of an anomaly, and it
// names its operations. If no two blocks contradict each other, an order
// exists (P. Gibbons, E. Korach: Testing Shared Memories, SIAM J. Comput.
// 26(4), 1997, has it for reads and writes), but for compare-and-sets that did
// not match, since they say only what was not there.
//
// 3. Order. That order is built (witness.go), compare-and-sets that did not
// match find their place in it, and the whole is replayed on the model. Where
// that fails, porcupine searches for any order (search.go), and its word counts.

// value is one value that a register had, or its absence at the beginning.
type value struct {
	text   string
	absent bool
	write  int   // the operation that stored it; -1: absent
	seen   []int // the answers that show it: reads, and compare-and-sets that matched
	used   bool  // its write did happen
	next   *value
	prev   *value // what write, a compare-and-set, replaced

	first, last     time.Duration // the span: the first End, the last Start
	firstOp, lastOp int           // whose they are; -1: the beginning's
	end             time.Duration // when write was done at the latest
}

// register is one key's operations, reduced.
type register struct {
	ops       []Operation
	key       key
	values    []*value          // in use, the absence first
	named     map[string]*value // every value that was written or tried
	unmatched []unmatched
	loose     time.Duration // the first Start of an unknown write that nobody saw
	findings  findings
}

// judgeRegister checks that the answers of the master are linearizable, and
// that those of others are not older than asked for. It reports whether search
// was exhausted.
func judgeRegister(ops []Operation, k key, search time.Duration) (findings, bool) {
	r := &register{ops: ops, key: k, loose: never}
	if !r.name() {
		return r.findings, false
	}
	r.observe()
	if len(r.findings.anomalies) > 0 { // no value, no span
		return r.findings, false
	}
	r.settle()
	r.spans()
	r.collectUnmatched()
	r.contradictions()
	r.notOld()
	if len(r.findings.anomalies) > 0 {
		return r.findings, false
	}
	return r.order(search)
}

// name notes who writes which value. It is false if two write the same.
func (r *register) name() bool {
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

// lookup is the value that an answer shows or a compare-and-set expects; an
// empty Expect is absence. Nil: nobody wrote it.
func (r *register) lookup(text string, absent bool) *value {
	if absent {
		return r.values[0]
	}
	return r.named[text]
}

// observe notes which answers show which value, and adds those that cannot be.
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

// possible adds that an answer shows a value which cannot have been there.
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
	case r.ops[v.write].Start > op.End && op.Outcome != Unknown: // else inOrder finds it
		a.Text, a.Operations = who+", before anybody had begun to write it", append(a.Operations, v.write)
	default:
		return true
	}
	for op.Outcome == Unknown { // what shows that it did match
		i = r.named[op.Value].seen[0]
		op, a.Operations = r.ops[i], append(a.Operations, i)
	}
	r.findings.add(a)
	return false
}

// found says what an operation does with what it finds.
func found(op Operation) string {
	switch {
	case op.Outcome == Unknown:
		return "must have matched"
	case op.Verb == CAS:
		return "matched"
	}
	return "read"
}

// settle finds out which writes did happen, links the compare-and-sets, and
// notes from when on there may be writes that nobody saw.
func (r *register) settle() {
	for _, i := range r.key.ops {
		op := r.ops[i]
		if v := r.named[op.Value]; op.acknowledged() || op.possible() && len(v.seen) > 0 {
			r.happened(v)
		}
	}
	for _, i := range r.key.ops {
		if op := r.ops[i]; op.possible() && !r.named[op.Value].used {
			r.loose = min(r.loose, op.Start)
		}
	}
}

// happened takes a value in, and that which a compare-and-set replaced by it.
func (r *register) happened(v *value) {
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
	r.happened(prev)
}

// spans works the spans out.
func (r *register) spans() {
	done := map[*value]bool{}
	for _, v := range r.values {
		r.span(v, done)
	}
}

// span works out one value's. A write of unknown end ends with the first answer
// that shows it, and that of a compare-and-set after it may be one of these.
func (r *register) span(v *value, done map[*value]bool) {
	if done[v] {
		return
	}
	done[v] = true // so that a circle ends here; it is found in contradictions
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

// end is when an operation was done at the latest.
func (r *register) end(i int) time.Duration {
	op := r.ops[i]
	if op.Outcome == Unknown {
		return r.named[op.Value].first
	}
	return op.End
}

// name is the value as a sentence has it.
func (v *value) name() string {
	if v.absent {
		return "the key absent"
	}
	return fmt.Sprintf("%q", v.text)
}

// keep is the operations that there are: -1 is none.
func keep(ops ...int) []int {
	return slices.DeleteFunc(ops, func(i int) bool { return i < 0 })
}
