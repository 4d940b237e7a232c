package history

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"
)

// counter is one key's increments and reads, sorted for lookups. A counter begins at 0 and is
// incremented by one. So each acknowledged increment has a number of its own, and a number that no
// increment was told belongs to an unknown one.
type counter struct {
	ops      []Operation
	name     string
	seen     []int           // acknowledged increments and master reads, by End
	acked    []int           // acknowledged increments, by number
	latest   []time.Duration // latest[i] is the last Start of acked[:i+1]
	ends     []time.Duration // of acknowledged increments, sorted
	unknown  []time.Duration // Start of unknown increments, sorted
	highest  []int           // highest[i] is the operation with the highest number in seen[:i+1]
	findings findings
}

// judgeCounter checks that increments and reads have an order that real time allows. It also checks
// that the numbers are neither higher nor lower than the increments that can have happened.
func judgeCounter(ops []Operation, k key) findings {
	c := newCounter(ops, k)
	c.distinct()
	told := map[int]bool{}
	for _, i := range finalFirst(ops, k) {
		op := ops[i]
		if !op.read() && !(op.Verb == Increment && op.Outcome == OK) {
			continue
		}
		if op.Number < 0 || op.Verb == Increment && op.Number == 0 {
			c.findings.add(Anomaly{What: ImpossibleRead, Key: c.name, Operations: []int{i},
				Text: fmt.Sprintf("client %d was told the number %d at %s, and a counter begins at 0", op.Client, op.Number, seconds(op.End))})
			continue
		}
		told[i] = c.tooLow(i)
	}
	c.tooHigh(k, told)
	return c.findings
}

func newCounter(ops []Operation, k key) *counter {
	c := &counter{ops: ops, name: k.name}
	for _, i := range k.ops {
		op := ops[i]
		switch {
		case op.Verb == Increment && op.Outcome == OK:
			c.seen, c.acked, c.ends = append(c.seen, i), append(c.acked, i), append(c.ends, op.End)
		case op.Verb == Increment && op.Outcome == Unknown:
			c.unknown = append(c.unknown, op.Start)
		case op.read() && op.master():
			c.seen = append(c.seen, i)
		}
	}
	slices.Sort(c.ends)
	slices.Sort(c.unknown)
	slices.SortStableFunc(c.seen, func(a, b int) int { return cmp.Compare(ops[a].End, ops[b].End) })
	slices.SortStableFunc(c.acked, func(a, b int) int { return cmp.Compare(ops[a].Number, ops[b].Number) })
	for n, i := range c.seen {
		if n > 0 && ops[c.highest[n-1]].Number >= ops[i].Number {
			i = c.highest[n-1]
		}
		c.highest = append(c.highest, i)
	}
	for n, i := range c.acked {
		start := ops[i].Start
		if n > 0 {
			start = max(start, c.latest[n-1])
		}
		c.latest = append(c.latest, start)
	}
	return c
}

// distinct adds acknowledged increments that got the same number.
func (c *counter) distinct() {
	for n := 1; n < len(c.acked); n++ {
		a, b := c.acked[n-1], c.acked[n]
		if c.ops[a].Number != c.ops[b].Number {
			continue
		}
		c.findings.add(Anomaly{What: WrongCounter, Key: c.name, Operations: []int{a, b},
			Text: fmt.Sprintf("two acknowledged increments, of clients %d and %d, both got the number %d: one of them is lost",
				c.ops[a].Client, c.ops[b].Client, c.ops[a].Number)})
	}
}

// tooLow adds an anomaly, and returns true, if an answer is lower than what was already known at
// the time whose state it had to show.
func (c *counter) tooLow(i int) bool {
	op, t := c.ops[i], c.ops[i].asOf()
	before := sort.Search(len(c.seen), func(n int) bool { return c.ops[c.seen[n]].End >= t })
	if before == 0 {
		return false
	}
	top := c.highest[before-1]
	high := c.ops[top]
	acked := int64(sort.Search(len(c.ends), func(n int) bool { return c.ends[n] >= t }))
	behind := high.Number > op.Number
	if op.Verb == Increment { // two increments with one number are reported by distinct
		behind = behind || high.Number == op.Number && high.Verb == Read
	} else {
		behind = behind || acked > op.Number
	}
	if !behind {
		return false
	}
	a := Anomaly{What: StaleRead, Key: c.name, Operations: []int{top, i}}
	switch {
	case op.Verb == Increment:
		a.What = WrongCounter
		a.Text = fmt.Sprintf("an increment of client %d got the number %d at %s, although %d was there at %s, before it began",
			op.Client, op.Number, seconds(op.End), high.Number, seconds(high.End))
	case op.Final && op.master():
		a.What = LostWrite
		a.Text = fmt.Sprintf("the final read found %d; %s and the highest number told was %d",
			op.Number, plural(int(acked), "increment had been acknowledged,", "increments had been acknowledged,"), high.Number)
	default:
		a.Text = fmt.Sprintf("client %d read %d%s at %s; before %s, %s and the highest number told was %d", op.Client, op.Number, fromWhere(op),
			seconds(op.End), seconds(t), plural(int(acked), "increment had been acknowledged,", "increments had been acknowledged,"), high.Number)
	}
	c.findings.add(a)
	return true
}

// tooHigh adds the first answer that is higher than the increments that can have happened by then
// allow. Numbers up to the answer's that no acknowledged increment has belong to unknown
// increments, and each of those must have begun before the answer came.
func (c *counter) tooHigh(k key, told map[int]bool) {
	order := slices.Clone(k.ops)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.ops[a].End, c.ops[b].End) })
	for _, i := range order {
		if _, answered := told[i]; !answered || told[i] {
			continue
		}
		op := c.ops[i]
		below := sort.Search(len(c.acked), func(n int) bool { return c.ops[c.acked[n]].Number > op.Number })
		begun := sort.Search(len(c.unknown), func(n int) bool { return c.unknown[n] > op.End })
		if early := !op.master() && below > 0 && c.latest[below-1] > op.End; early {
			c.findings.add(Anomaly{What: ImpossibleRead, Key: c.name, Operations: []int{i},
				Text: fmt.Sprintf("client %d read %d%s at %s, before an increment that got this or a lower number had begun",
					op.Client, op.Number, fromWhere(op), seconds(op.End))})
			return
		}
		if op.Number-int64(below) <= int64(begun) {
			continue
		}
		c.findings.add(Anomaly{What: WrongCounter, Key: c.name, Operations: []int{i},
			Text: fmt.Sprintf("client %d was told %d at %s, but up to there only %d increments were acknowledged and %d are unknown: one was carried out twice",
				op.Client, op.Number, seconds(op.End), below, begun)})
		return
	}
}

// fromWhere returns, for a read that the master did not serve, which source did.
func fromWhere(op Operation) string {
	switch op.From {
	case "replica":
		return fmt.Sprintf(" from a replica, at most %v old,", op.MaxAge)
	case "cached":
		return fmt.Sprintf(" from a cache, at most %v old,", op.MaxAge)
	}
	return ""
}
