package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// block is a chain of values that follow each other by compare-and-set, in order. Most blocks have
// one value.
type block struct {
	values          []*value
	first, last     time.Duration
	firstOp, lastOp int
	firstOf, lastOf *value // the values of firstOp and lastOp

	// For the order that is tried: the position of the block, and the earliest time at which it may
	// begin. moves counts how often reschedule has moved it.
	start, notBefore time.Duration
	moves            int
}

// forward reports whether the block's value was certainly there for a while: from first to last.
// Otherwise all operations of the block have a common moment, anywhere from last to first.
func (b *block) forward() bool {
	return b.first < b.last
}

// contradictions adds the anomalies that the spans prove.
func (r *register) contradictions() {
	single := make([]*block, len(r.values))
	for i, v := range r.values {
		single[i] = newBlock([]*value{v})
	}
	r.checkDisjoint(single)
	if len(r.findings.anomalies) > 0 {
		return
	}
	r.checkDisjoint(r.blocks())
}

func newBlock(values []*value) *block {
	b := &block{values: values, first: never, last: always, firstOp: -1, lastOp: -1, firstOf: values[0], lastOf: values[0]}
	for _, v := range values {
		if v.first < b.first {
			b.first, b.firstOp, b.firstOf = v.first, v.firstOp, v
		}
		if v.last > b.last {
			b.last, b.lastOp, b.lastOf = v.last, v.lastOp, v
		}
	}
	return b
}

// blocks links the values to chains, and adds compare-and-sets that contradict each other.
func (r *register) blocks() []*block {
	for _, v := range r.values {
		if v.prev == nil {
			continue
		}
		if other := v.prev.next; other != nil {
			r.add(Anomaly{What: NotLinearizable, Key: r.key.name, Operations: []int{other.write, v.write},
				Text: fmt.Sprintf("two compare-and-sets, of clients %d and %d, both matched %s, which each of them replaced",
					r.ops[other.write].Client, r.ops[v.write].Client, v.prev.name())})
			continue
		}
		v.prev.next = v
	}
	var blocks []*block
	linked := 0
	for _, v := range r.values {
		if v.prev != nil {
			continue
		}
		chain := []*value{v}
		for v.next != nil {
			v = v.next
			chain = append(chain, v)
		}
		linked += len(chain)
		r.checkChainOrder(chain)
		blocks = append(blocks, newBlock(chain))
	}
	if linked < len(r.values) && len(r.findings.anomalies) == 0 {
		r.addCircle()
	}
	return blocks
}

// addCircle adds that some compare-and-sets each matched a value that another of them stored.
func (r *register) addCircle() {
	a := Anomaly{What: NotLinearizable, Key: r.key.name, Text: "compare-and-sets matched each other's values in a circle"}
	reached := map[*value]bool{}
	for _, v := range r.values {
		for root := v; v.prev == nil && root != nil; root = root.next {
			reached[root] = true
		}
	}
	for _, v := range r.values {
		if !reached[v] {
			a.Operations = append(a.Operations, v.write)
		}
	}
	r.add(a)
}

// checkChainOrder adds that an earlier value of a chain was seen after a later one.
func (r *register) checkChainOrder(chain []*value) {
	later := chain[len(chain)-1]
	for n := len(chain) - 2; n >= 0; n-- {
		v := chain[n]
		if later.first < v.last {
			r.addReturned(v, later, later.firstOp, v.lastOp, nil)
		}
		if v.first < later.first {
			later = v
		}
	}
}

// checkDisjoint adds blocks that contradict each other: A has to be before B, and B before A. Each
// pair is found from the block whose span begins first.
func (r *register) checkDisjoint(blocks []*block) {
	order := slices.Clone(blocks)
	slices.SortStableFunc(order, func(a, b *block) int { return cmp.Compare(a.first, b.first) })
	var pairs []pair
	for n, a := range order {
		if !a.forward() {
			continue
		}
		for _, b := range order[n+1:] {
			if b.first >= a.last {
				break
			}
			if b.last > a.first {
				pairs = append(pairs, r.orderPair(a, b))
			}
		}
		if len(pairs) > 10000 {
			break
		}
	}
	r.addContradictions(pairs)
}

// pair is two blocks: the older one was seen, or matched, again after the newer one.
type pair struct {
	older, newer *block
}

// orderPair decides which block is older: the one whose write ended before the other's began. If
// that does not decide, the one seen last counts as the older one that came back.
func (r *register) orderPair(a, b *block) pair {
	av, bv := a.values[0], b.values[0]
	switch {
	case bv.absent || !av.absent && bv.end < r.ops[av.write].Start:
		return pair{older: b, newer: a}
	case av.absent || av.end < r.ops[bv.write].Start:
		return pair{older: a, newer: b}
	case a.last < b.last:
		return pair{older: b, newer: a}
	}
	return pair{older: a, newer: b}
}

// addContradictions adds an anomaly for each older block, the one seen last first, so that lost
// writes come first. The anomaly names the newer block that was there first, and how many other
// ones the same answer contradicts.
func (r *register) addContradictions(pairs []pair) {
	byOlder := map[*block][]*block{}
	var olders []*block
	for _, p := range pairs {
		if byOlder[p.older] == nil {
			olders = append(olders, p.older)
		}
		byOlder[p.older] = append(byOlder[p.older], p.newer)
	}
	slices.SortStableFunc(olders, func(a, b *block) int { return cmp.Compare(b.last, a.last) })
	for _, older := range olders {
		newer := byOlder[older]
		slices.SortStableFunc(newer, func(a, b *block) int { return cmp.Compare(a.first, b.first) })
		r.addReturned(older.lastOf, newer[0].firstOf, newer[0].firstOp, older.lastOp, &contradiction{older, newer})
	}
}

// contradiction is an older block with the newer ones that it contradicts.
type contradiction struct {
	older *block
	newer []*block
}

// addReturned adds an anomaly: the operation back saw old, although it began after the operation
// shown had shown new. With c, c proves that old had been there before new.
func (r *register) addReturned(old, new *value, shown, back int, c *contradiction) {
	op, after := r.ops[back], r.ops[shown]
	known := fmt.Sprintf("%s, which client %d had written, acknowledged at %s", new.name(), after.Client, seconds(after.End))
	if shown != new.write {
		known = fmt.Sprintf("%s, which client %d had seen at %s", new.name(), after.Client, seconds(after.End))
	} else if after.Outcome != OK {
		known = fmt.Sprintf("%s, which had been written by %s", new.name(), seconds(r.end(shown)))
	}
	a := Anomaly{Key: r.key.name, Operations: keep(shown, back, old.write, new.write)}
	if c != nil {
		a.Operations = append(a.Operations, keep(c.older.firstOp, c.newer[0].lastOp)...)
		for _, b := range c.newer[:min(len(c.newer), 10)] {
			a.Operations = append(a.Operations, keep(b.values[0].write)...)
		}
		if len(c.newer) > 1 {
			known += fmt.Sprintf(", and %s", plural(len(c.newer)-1, "more write", "more writes"))
		}
	}
	switch {
	case op.Verb == Read && op.Final:
		a.What, a.Text = LostWrite, fmt.Sprintf("the final read found %s; lost is %s", old.name(), known)
	case op.Verb == Read:
		a.What, a.Text = StaleRead, fmt.Sprintf("client %d read %s, begun at %s, and so not %s", op.Client, old.name(), seconds(op.Start), known)
		if !r.seenAfter(new, op.Start) {
			a.Text += "; nobody saw that later, it may be lost"
		}
	case op.Verb == CAS && r.lookup(op.Expect, op.Expect == "") == old:
		a.What, a.Text = NotLinearizable, fmt.Sprintf("a compare-and-set of client %d, begun at %s, matched %s, and so not %s", op.Client, seconds(op.Start), old.name(), known)
	default:
		a.What, a.Text = NotLinearizable, fmt.Sprintf("no order explains who saw %s and who saw %s", old.name(), known)
	}
	r.addSurrounding(&a)
	r.add(a)
}

// add adds an anomaly. To its operations it adds those that prove that unknown writes among them
// did happen.
func (r *register) add(a Anomaly) {
	for n := 0; n < len(a.Operations); n++ {
		op := r.ops[a.Operations[n]]
		if !op.writes() || op.Outcome != Unknown {
			continue
		}
		if v := r.named[op.Value]; v.firstOp != v.write && !slices.Contains(a.Operations, v.firstOp) {
			a.Operations = append(a.Operations, v.firstOp)
		}
	}
	r.findings.add(a)
}

// seenAfter reports whether an operation that ended after t saw the value.
func (r *register) seenAfter(v *value, t time.Duration) bool {
	return slices.ContainsFunc(v.seen, func(i int) bool { return r.ops[i].End > t })
}

// aroundSpan is the time before and after an anomaly's last operation from which other operations
// of the register are added to the anomaly. aroundMost is the largest number of those.
const (
	aroundSpan = 100 * time.Millisecond
	aroundMost = 20
)

// addSurrounding adds the register's operations near the one that shows the anomaly.
func (r *register) addSurrounding(a *Anomaly) {
	var at time.Duration
	for _, i := range a.Operations {
		at = max(at, r.ops[i].Start)
	}
	near := slices.Clone(r.key.ops)
	near = slices.DeleteFunc(near, func(i int) bool {
		op := r.ops[i]
		return op.End < at-aroundSpan || op.Start > at+aroundSpan
	})
	slices.SortStableFunc(near, func(i, j int) int {
		return cmp.Compare((r.ops[i].Start - at).Abs(), (r.ops[j].Start - at).Abs())
	})
	a.Operations = append(a.Operations, near[:min(len(near), aroundMost)]...)
}
