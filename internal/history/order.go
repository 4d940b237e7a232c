package history

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// maxReschedules is how often blocks may be moved to make room for compare-and-sets that did not
// match. maxMoves is how often a single block may be moved.
const (
	maxReschedules = 300
	maxMoves       = 4
)

// scheduledOp is one operation at its position in the order that is tried.
type scheduledOp struct {
	op int
	at time.Duration
}

// interval is the time for which the register has one value in that order.
type interval struct {
	value *value
	block *block
	from  time.Duration // the time of its write
	until time.Duration // the time of the last operation that needs the value
	after int           // the number of operations up to and including its write
}

// findOrder finds an order of the operations, by construction or by search. It reports whether the
// search ran out of time.
func (r *register) findOrder(search time.Duration) (findings, bool) {
	if r.constructOrder() {
		return r.findings, false
	}
	return r.search(search)
}

// constructOrder builds the order that the spans suggest, and replays it. If it returns true, the
// register is linearizable. If it returns false, nothing is known.
func (r *register) constructOrder() bool {
	blocks := r.rebuildBlocks()
	if !placeBlocks(blocks) {
		return false
	}
	for range maxReschedules {
		ops, intervals := r.schedule(blocks)
		open := r.insertUnmatched(&ops, intervals)
		if open == nil {
			return r.replay(ops)
		}
		if !reschedule(blocks, intervals, r.ops[open.op], open.expects) {
			return false
		}
	}
	return false
}

// rebuildBlocks returns the blocks. The values are linked by now.
func (r *register) rebuildBlocks() []*block {
	var blocks []*block
	for _, v := range r.values {
		if v.prev != nil {
			continue
		}
		var chain []*value
		for ; v != nil; v = v.next {
			chain = append(chain, v)
		}
		blocks = append(blocks, newBlock(chain))
	}
	return blocks
}

// placeBlocks gives each block its position. A forward block gets the only possible one; any other
// block gets the earliest one outside of all forward blocks. It returns false if a block has none.
func placeBlocks(blocks []*block) bool {
	fixed := forwardBlocks(blocks)
	for _, b := range blocks {
		if b.forward() {
			b.start = b.first
			continue
		}
		b.start = outsideForward(fixed, b.last)
		if b.start > b.first {
			return false // the spans contradict each other
		}
	}
	return true
}

// outsideForward returns the first time from t on that is not within a forward block.
func outsideForward(fixed []*block, t time.Duration) time.Duration {
	n := sort.Search(len(fixed), func(n int) bool { return fixed[n].last > t })
	if n < len(fixed) && fixed[n].first < t {
		return fixed[n].last
	}
	return t
}

// schedule puts the blocks' operations in order, each as early as possible: a compare-and-set that
// did not match usually expected an earlier value.
func (r *register) schedule(blocks []*block) ([]scheduledOp, []interval) {
	order := slices.Clone(blocks)
	slices.SortStableFunc(order, func(a, b *block) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(max(a.start, a.last), max(b.start, b.last)), cmp.Compare(a.moves, b.moves))
	})
	var ops []scheduledOp
	var intervals []interval
	at := always
	for _, b := range order {
		at = max(at, b.notBefore)
		for _, v := range b.values {
			if !v.absent {
				at = max(at, r.ops[v.write].Start)
				ops = append(ops, scheduledOp{v.write, at})
			}
			s := interval{value: v, block: b, from: at, after: len(ops)}
			reads := slices.Clone(v.seen)
			slices.SortStableFunc(reads, func(i, j int) int { return cmp.Compare(r.ops[i].Start, r.ops[j].Start) })
			for _, i := range reads {
				if r.ops[i].Verb == Read {
					at = max(at, r.ops[i].Start)
					ops = append(ops, scheduledOp{i, at})
				}
			}
			s.until = at
			if v.next != nil {
				s.until = max(at, r.ops[v.next.write].Start)
			}
			intervals = append(intervals, s)
		}
	}
	return ops, intervals
}

// insertUnmatched inserts the compare-and-sets that did not match where the register had another
// value than they expected. It returns the first one that has no such position and is not excused.
func (r *register) insertUnmatched(ops *[]scheduledOp, intervals []interval) *unmatched {
	type insert struct {
		scheduledOp
		after int
	}
	var inserts []insert
	for n := range r.unmatched {
		u := &r.unmatched[n]
		op := r.ops[u.op]
		i := sort.Search(len(intervals), func(n int) bool { return intervals[n].from > op.Start }) - 1
		switch {
		case i < 0:
			return u
		case intervals[i].value != u.expects:
			before := sort.Search(len(*ops), func(n int) bool { return (*ops)[n].at > op.Start })
			inserts = append(inserts, insert{scheduledOp{u.op, op.Start}, before})
		case i+1 < len(intervals) && intervals[i+1].from <= op.End:
			inserts = append(inserts, insert{scheduledOp{u.op, intervals[i+1].from}, intervals[i+1].after})
		case i > 0 && intervals[i].from == op.Start:
			inserts = append(inserts, insert{scheduledOp{u.op, op.Start}, intervals[i].after - 1})
		case !u.excused:
			return u
		}
	}

	slices.SortStableFunc(inserts, func(a, b insert) int {
		return cmp.Or(cmp.Compare(a.after, b.after), cmp.Compare(a.at, b.at))
	})

	all := make([]scheduledOp, 0, len(*ops)+len(inserts))
	for n := 0; n <= len(*ops); n++ {
		for len(inserts) > 0 && inserts[0].after == n {
			all = append(all, inserts[0].scheduledOp)
			inserts = inserts[1:]
		}
		if n < len(*ops) {
			all = append(all, (*ops)[n])
		}
	}
	*ops = all
	return nil
}

// reschedule moves a block, so that op, a compare-and-set that expected v and found something else,
// gets a position. It moves either another block to after v and before op's end, or v's own block
// to after op's start, and chooses the one that was moved least. It returns false if there is none.
func reschedule(blocks []*block, intervals []interval, op Operation, v *value) bool {
	fixed := forwardBlocks(blocks)
	n := slices.IndexFunc(intervals, func(s interval) bool { return s.value == v })
	own, until := intervals[n].block, intervals[n].until
	var best *block
	for _, b := range blocks {
		switch {
		case b.moves >= maxMoves || b.values[0].absent || best != nil && best.moves <= b.moves:
		case b == own && own.earliestStart(fixed, op) <= min(b.first, op.End):
			best = b
		case b != own && !b.forward() && outsideForward(fixed, max(b.last, until)) <= min(b.first, op.End):
			best = b
		}
	}
	switch {
	case best == nil:
		return false
	case best != own:
		best.start, best.notBefore = outsideForward(fixed, max(best.last, until)), always
	case own.forward():
		own.notBefore = own.earliestStart(fixed, op)
	default:
		own.start = own.earliestStart(fixed, op)
		own.notBefore = own.start
	}
	best.moves++
	return true
}

// earliestStart returns the first time from op's start on at which the block can begin.
func (b *block) earliestStart(fixed []*block, op Operation) time.Duration {
	if b.forward() {
		return op.Start
	}
	return outsideForward(fixed, max(b.last, op.Start))
}

// forwardBlocks returns the forward blocks, sorted by first.
func forwardBlocks(blocks []*block) []*block {
	var fixed []*block
	for _, b := range blocks {
		if b.forward() {
			fixed = append(fixed, b)
		}
	}
	slices.SortFunc(fixed, func(a, b *block) int { return cmp.Compare(a.first, b.first) })
	return fixed
}

// replay runs an order through the model. It checks that each operation's time in the order is
// within the time that its client saw.
func (r *register) replay(ops []scheduledOp) bool {
	model := registerModel()
	state := model.Init()
	at := always
	for _, m := range ops {
		op := r.ops[m.op]
		if m.at < at || m.at < op.Start || m.at > r.end(m.op) {
			return false
		}
		at = m.at
		var ok bool
		if ok, state = model.Step(state, r.step(m.op), nil); !ok {
			return false
		}
	}
	return true
}
