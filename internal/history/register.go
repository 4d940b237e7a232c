package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A register is judged in three steps.
//
// 1. Reduction. What cannot matter is left out, and what did happen gets its
// latest time. Failed operations and reads without an answer say nothing.
// Values are unique, so that each answer names the write it saw:
//   - An unknown write whose value somebody saw did happen, and not later than
//     the first answer that shows it: its end is that answer's. So it is with
//     an unknown compare-and-set, which matched then; and so what it expected
//     was seen.
//   - An unknown write whose value nobody saw is left out. This is sound: take
//     any legal order of all operations with it in. Until the next write after
//     it, nobody can have read or matched what was there, or its value would
//     have been seen. There can only be compare-and-sets that found something
//     else than they expected. Without the write, these find the value before
//     it, which can only be wrong for one that expected just that value. Those
//     are excused (unmatched.excused) rather than held against the history.
//
// Nothing is left open to the end of time then, on which porcupine's search
// would take 2^n steps.
//
// 2. Spans. All operations that saw or wrote one value, and all values that
// follow one from the other by compare-and-set, are together a block, and no
// other write can be in its midst. A block's span is from its first End to its
// last Start. Where block A's first End is before B's last Start, some of A is
// before some of B, and so all of A is before all of B. If the same holds the
// other way round, no order exists: that is the proof of an anomaly, and it
// names its operations. If no two blocks contradict each other, an order
// exists (P. Gibbons, E. Korach: Testing Shared Memories, SIAM J. Comput.
// 26(4), 1997, section 4.2), but for compare-and-sets that did not match, since they
// say only what was not there.
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
	next   *value
	prev   *value // what write, a compare-and-set, replaced

	first, last     time.Duration // the span: the first End, the last Start
	firstOp, lastOp int           // whose they are; -1: the beginning's
	end             time.Duration // when write was done at the latest
}

// unmatched is a compare-and-set that found something else than it expected.
type unmatched struct {
	op      int
	expects *value
	// excused: an unknown write that nobody saw may have been there.
	excused bool
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
	r.values = []*value{{absent: true, write: -1, first: always, last: always, firstOp: -1, lastOp: -1, end: always}}
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
	certain := map[*value]bool{}
	var happened func(v *value)
	happened = func(v *value) {
		if v.absent || certain[v] {
			return
		}
		certain[v] = true
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
		happened(prev)
	}
	for _, i := range r.key.ops {
		op := r.ops[i]
		if !op.possible() {
			continue
		}
		if v := r.named[op.Value]; op.acknowledged() || len(v.seen) > 0 {
			happened(v)
		}
	}
	for _, i := range r.key.ops {
		if op := r.ops[i]; op.possible() && !certain[r.named[op.Value]] {
			r.loose = min(r.loose, op.Start)
		}
	}
}

// spans works the spans out. A write of unknown end ends with the first answer
// that shows it, and that of a compare-and-set after it may be one of these.
func (r *register) spans() {
	done := map[*value]bool{}
	var span func(v *value)
	span = func(v *value) {
		if done[v] {
			return
		}
		done[v] = true // a circle of compare-and-sets is found in contradictions
		if !v.absent {
			op := r.ops[v.write]
			v.first, v.last, v.firstOp, v.lastOp = never, op.Start, v.write, v.write
			if op.Outcome == OK {
				v.first = op.End
			}
		}
		for _, i := range v.seen {
			if r.ops[i].Verb == CAS {
				span(r.named[r.ops[i].Value])
			}
			if end := r.end(i); end < v.first {
				v.first, v.firstOp = end, i
			}
			if start := r.ops[i].Start; start > v.last {
				v.last, v.lastOp = start, i
			}
		}
		v.end = v.first
		if !v.absent && r.ops[v.write].Outcome == OK {
			v.end = r.ops[v.write].End
		}
	}
	for _, v := range r.values {
		span(v)
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

// collectUnmatched notes the compare-and-sets that did not match, as far as
// they say anything: what they expected has to have been there some time.
func (r *register) collectUnmatched() {
	used := map[*value]bool{}
	for _, v := range r.values {
		used[v] = true
	}
	for _, i := range r.key.ops {
		op := r.ops[i]
		if op.Verb != CAS || op.Outcome != OK || op.Matched {
			continue
		}
		v := r.lookup(op.Expect, op.Expect == "")
		if v == nil || !used[v] {
			continue
		}
		surely := v.first < op.Start && op.End < v.last
		r.unmatched = append(r.unmatched, unmatched{op: i, expects: v, excused: r.loose <= op.End && !surely})
		if surely {
			r.add(Anomaly{What: NotLinearizable, Key: r.key.name, Operations: keep(v.firstOp, i, v.lastOp),
				Text: fmt.Sprintf("a compare-and-set of client %d, at %s, did not find %s, which was there before and after it",
					op.Client, seconds(op.End), v.name())})
		}
	}
}

// name is the value as a sentence has it.
func (v *value) name() string {
	if v.absent {
		return "the key absent"
	}
	return fmt.Sprintf("%q", v.text)
}

// notOld adds reads of replicas and caches that are older than asked for: a
// value that certainly followed the one they show was there already at the
// time whose state they had to show.
func (r *register) notOld() {
	order := slices.Clone(r.values)
	slices.SortStableFunc(order, func(a, b *value) int { return cmp.Compare(a.first, b.first) })
	newest := make([][2]*value, len(order)) // of order[:i+1], the two with the latest last
	for n, v := range order {
		var best [2]*value
		if n > 0 {
			best = newest[n-1]
		}
		switch {
		case best[0] == nil || v.last > best[0].last:
			best = [2]*value{v, best[0]}
		case best[1] == nil || v.last > best[1].last:
			best[1] = v
		}
		newest[n] = best
	}
	used := map[*value]bool{}
	for _, v := range order {
		used[v] = true
	}
	for _, i := range r.key.ops {
		op := r.ops[i]
		v := r.lookup(op.Got, !op.Found)
		if !op.read() || op.master() || !used[v] {
			continue
		}
		n, _ := slices.BinarySearchFunc(order, op.asOf(), func(v *value, t time.Duration) int { return cmp.Compare(v.first, t) })
		if n == 0 {
			continue
		}
		later := newest[n-1][0]
		if later == v {
			later = newest[n-1][1]
		}
		if later == nil || later.last <= v.first {
			continue
		}
		r.findings.add(Anomaly{What: StaleRead, Key: r.key.name, Operations: keep(v.write, later.write, later.firstOp, i),
			Text: fmt.Sprintf("client %d read %s%s at %s, although %s, which came after it, was there at %s",
				op.Client, v.name(), fromWhere(op), seconds(op.End), later.name(), seconds(later.first))})
	}
}

// keep is the operations that there are: -1 is none.
func keep(ops ...int) []int {
	return slices.DeleteFunc(ops, func(i int) bool { return i < 0 })
}
