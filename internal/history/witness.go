package history

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// maxMends is how often blocks may be moved to make room for compare-and-sets that did not match.
// maxMoves is how often a single block may be moved.
const (
	maxMends = 300
	maxMoves = 4
)

// moment is one operation at its position in the order that is tried.
type moment struct {
	op int
	at time.Duration
}

// stretch is the time for which the register has one value in that order.
type stretch struct {
	value *value
	block *block
	from  time.Duration // the time of its write
	until time.Duration // the time of the last operation that needs the value
	after int           // the number of moments up to and including its write
}

// order finds an order of the operations, by construction or by search. It reports whether the
// search ran out of time.
func (r *register) order(search time.Duration) (findings, bool) {
	if r.witness() {
		return r.findings, false
	}
	return r.search(search)
}

// witness builds the order that the spans suggest, and replays it. If it returns true, the register
// is linearizable. If it returns false, nothing is known.
func (r *register) witness() bool {
	blocks := r.blocksAgain()
	if !place(blocks) {
		return false
	}
	for range maxMends {
		moments, stretches := r.lay(blocks)
		open := r.fit(&moments, stretches)
		if open == nil {
			return r.replay(moments)
		}
		if !mend(blocks, stretches, r.ops[open.op], open.expects) {
			return false
		}
	}
	return false
}

// blocksAgain returns the blocks. The values are linked by now.
func (r *register) blocksAgain() []*block {
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

// place gives each block its position. A forward block gets the only possible one; any other block
// gets the earliest one outside of all forward blocks. It returns false if a block has none.
func place(blocks []*block) bool {
	fixed := forwardOnes(blocks)
	for _, b := range blocks {
		if b.forward() {
			b.place = b.first
			continue
		}
		b.place = outside(fixed, b.last)
		if b.place > b.first {
			return false // the spans contradict each other
		}
	}
	return true
}

// outside returns the first time from t on that is not within a forward block.
func outside(fixed []*block, t time.Duration) time.Duration {
	n := sort.Search(len(fixed), func(n int) bool { return fixed[n].last > t })
	if n < len(fixed) && fixed[n].first < t {
		return fixed[n].last
	}
	return t
}

// lay puts the blocks' operations in order, each as early as possible: a compare-and-set that did
// not match usually expected an earlier value.
func (r *register) lay(blocks []*block) ([]moment, []stretch) {
	order := slices.Clone(blocks)
	slices.SortStableFunc(order, func(a, b *block) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(max(a.place, a.last), max(b.place, b.last)), cmp.Compare(a.moves, b.moves))
	})
	var moments []moment
	var stretches []stretch
	at := always
	for _, b := range order {
		at = max(at, b.notBefore)
		for _, v := range b.values {
			if !v.absent {
				at = max(at, r.ops[v.write].Start)
				moments = append(moments, moment{v.write, at})
			}
			s := stretch{value: v, block: b, from: at, after: len(moments)}
			reads := slices.Clone(v.seen)
			slices.SortStableFunc(reads, func(i, j int) int { return cmp.Compare(r.ops[i].Start, r.ops[j].Start) })
			for _, i := range reads {
				if r.ops[i].Verb == Read {
					at = max(at, r.ops[i].Start)
					moments = append(moments, moment{i, at})
				}
			}
			s.until = at
			if v.next != nil {
				s.until = max(at, r.ops[v.next.write].Start)
			}
			stretches = append(stretches, s)
		}
	}
	return moments, stretches
}

// fit inserts the compare-and-sets that did not match where the register had another value than
// they expected. It returns the first one that has no such position and is not excused.
func (r *register) fit(moments *[]moment, stretches []stretch) *unmatched {
	type insert struct {
		moment
		after int
	}
	var inserts []insert
	for n := range r.unmatched {
		u := &r.unmatched[n]
		op := r.ops[u.op]
		i := sort.Search(len(stretches), func(n int) bool { return stretches[n].from > op.Start }) - 1
		switch {
		case i < 0:
			return u
		case stretches[i].value != u.expects:
			before := sort.Search(len(*moments), func(n int) bool { return (*moments)[n].at > op.Start })
			inserts = append(inserts, insert{moment{u.op, op.Start}, before})
		case i+1 < len(stretches) && stretches[i+1].from <= op.End:
			inserts = append(inserts, insert{moment{u.op, stretches[i+1].from}, stretches[i+1].after})
		case i > 0 && stretches[i].from == op.Start:
			inserts = append(inserts, insert{moment{u.op, op.Start}, stretches[i].after - 1})
		case !u.excused:
			return u
		}
	}

	slices.SortStableFunc(inserts, func(a, b insert) int {
		return cmp.Or(cmp.Compare(a.after, b.after), cmp.Compare(a.at, b.at))
	})

	all := make([]moment, 0, len(*moments)+len(inserts))
	for n := 0; n <= len(*moments); n++ {
		for len(inserts) > 0 && inserts[0].after == n {
			all = append(all, inserts[0].moment)
			inserts = inserts[1:]
		}
		if n < len(*moments) {
			all = append(all, (*moments)[n])
		}
	}
	*moments = all
	return nil
}

// mend moves a block, so that op, a compare-and-set that expected v and found something else, gets
// a position. It moves either another block to after v and before op's end, or v's own block to
// after op's start, and chooses the one that was moved least. It returns false if there is none.
func mend(blocks []*block, stretches []stretch, op Operation, v *value) bool {
	fixed := forwardOnes(blocks)
	n := slices.IndexFunc(stretches, func(s stretch) bool { return s.value == v })
	own, until := stretches[n].block, stretches[n].until
	var best *block
	for _, b := range blocks {
		switch {
		case b.moves >= maxMoves || b.values[0].absent || best != nil && best.moves <= b.moves:
		case b == own && own.later(fixed, op) <= min(b.first, op.End):
			best = b
		case b != own && !b.forward() && outside(fixed, max(b.last, until)) <= min(b.first, op.End):
			best = b
		}
	}
	switch {
	case best == nil:
		return false
	case best != own:
		best.place, best.notBefore = outside(fixed, max(best.last, until)), always
	case own.forward():
		own.notBefore = own.later(fixed, op)
	default:
		own.place = own.later(fixed, op)
		own.notBefore = own.place
	}
	best.moves++
	return true
}

// later returns the first time from op's start on at which the block can begin.
func (b *block) later(fixed []*block, op Operation) time.Duration {
	if b.forward() {
		return op.Start
	}
	return outside(fixed, max(b.last, op.Start))
}

// forwardOnes returns the forward blocks, sorted by first.
func forwardOnes(blocks []*block) []*block {
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
func (r *register) replay(moments []moment) bool {
	model := registerModel()
	state := model.Init()
	at := always
	for _, m := range moments {
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
