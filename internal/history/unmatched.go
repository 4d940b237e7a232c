package history

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"
)

// unmatched is a compare-and-set that found something other than what it expected.
type unmatched struct {
	op      int
	expects *value
	// excused: an unknown write whose value was never seen may have been there.
	excused bool
}

// collectUnmatched records the compare-and-sets that did not match. They carry information only if
// what they expected was there at some time. It adds an anomaly for each one that had to match.
func (r *register) collectUnmatched() {
	later := r.successors()
	for _, i := range r.key.ops {
		op := r.ops[i]
		if op.Verb != CAS || op.Outcome != OK || op.Matched {
			continue
		}
		v := r.lookup(op.Expect, op.Expect == "")
		if v == nil || !v.used {
			continue
		}
		there := v.first < op.Start && op.End < v.last
		u := unmatched{op: i, expects: v, excused: r.loose <= op.End && !there}
		alone := v.first < op.Start && !u.excused && !later.other(r, v, op)
		r.unmatched = append(r.unmatched, u)
		who := fmt.Sprintf("a compare-and-set of client %d, at %s, did not find %s, which was there before it", op.Client, seconds(op.End), v.name())
		switch {
		case there:
			r.add(Anomaly{What: NotLinearizable, Key: r.key.name, Operations: keep(v.firstOp, i, v.lastOp), Text: who + ", and after it"})
		case alone:
			a := Anomaly{What: NotLinearizable, Key: r.key.name, Operations: keep(v.firstOp, v.write, i), Text: who + "; no other write can have come between"}
			r.addSurrounding(&a)
			r.add(a)
		}
	}
}

// successors holds a register's values sorted by first. earliest has, for each of them, the two
// values of it and those behind it whose writes began first.
type successors struct {
	order    []*value
	earliest [][2]*value
}

func (r *register) successors() successors {
	s := successors{order: slices.Clone(r.values), earliest: make([][2]*value, len(r.values))}
	slices.SortStableFunc(s.order, func(a, b *value) int { return cmp.Compare(a.first, b.first) })
	var best [2]*value
	for n, v := range slices.Backward(s.order) {
		switch {
		case best[0] == nil || r.begun(v) < r.begun(best[0]):
			best = [2]*value{v, best[0]}
		case best[1] == nil || r.begun(v) < r.begun(best[1]):
			best[1] = v
		}
		s.earliest[n] = best
	}
	return s
}

// other reports whether another value can have come between v's write and the end of op: a value
// that is not certainly before v, and whose write had begun by then.
func (s successors) other(r *register, v *value, op Operation) bool {
	n := sort.Search(len(s.order), func(n int) bool { return s.order[n].first >= v.last })
	if n == len(s.order) {
		return false
	}
	for _, w := range s.earliest[n] {
		if w != nil && w != v && r.begun(w) <= op.End {
			return true
		}
	}
	return false
}

// begun returns when a value's write began.
func (r *register) begun(v *value) time.Duration {
	if v.absent {
		return always
	}
	return r.ops[v.write].Start
}
