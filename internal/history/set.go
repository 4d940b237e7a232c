package history

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"
)

// member is one member of a set.
type member struct {
	add  int           // the operation that adds it
	from time.Duration // when it was certainly there: acknowledged, or seen by a master read
	by   int           // the operation that proves it
}

// set is one key's adds and reads.
type set struct {
	ops      []Operation
	name     string
	members  map[string]*member
	certain  []*member // those that were certainly there at some time, sorted by from
	findings findings
}

// judgeSet checks the members of each read.
//
// A read must have every member that was certainly there at the time whose state it had to show, or
// when the Add of another member that it shows began. It must not have a member that cannot have
// been there. Every later read must show what a master read showed. Of two master reads at the same
// time, one must have all members of the other, because the set only grows.
func judgeSet(ops []Operation, k key) findings {
	s := &set{ops: ops, name: k.name, members: map[string]*member{}}
	for _, i := range k.ops {
		op := ops[i]
		if op.Verb != Add {
			continue
		}
		if _, twice := s.members[op.Value]; twice {
			s.findings.undecided = append(s.findings.undecided, sameValue(k, op.Value))
			return s.findings
		}
		m := &member{add: i, from: never, by: i}
		if op.acknowledged() {
			m.from = op.End
		}
		s.members[op.Value] = m
	}

	for _, i := range k.ops {
		if ops[i].read() {
			s.possible(i)
		}
	}

	for _, m := range s.members {
		if m.from < never {
			s.certain = append(s.certain, m)
		}
	}
	slices.SortFunc(s.certain, func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.add, b.add))
	})

	for _, i := range finalFirst(ops, k) {
		if ops[i].read() {
			s.complete(i)
		}
	}
	if len(s.findings.anomalies) == 0 {
		s.growing(k)
	}
	return s.findings
}

// possible adds an anomaly for each member that a read cannot have seen, and records the others.
func (s *set) possible(i int) {
	op := s.ops[i]
	seen := make(map[*member]bool, len(op.Members))
	for _, value := range op.Members {
		m := s.members[value]
		if what, why := s.impossible(m, op, seen[m]); why != "" {
			a := Anomaly{What: what, Key: s.name, Operations: []int{i},
				Text: fmt.Sprintf("client %d read %q%s at %s, %s", op.Client, value, fromWhere(op), seconds(op.End), why)}
			if m != nil {
				a.Operations = append(a.Operations, m.add)
			}
			s.findings.add(a)
			continue
		}
		seen[m] = true
		if op.master() && op.End < m.from {
			m.from, m.by = op.End, i
		}
	}
}

// impossible returns why an answer cannot have a member, and the kind of that anomaly; both are
// empty if it can.
func (s *set) impossible(m *member, op Operation, again bool) (what, why string) {
	switch {
	case m == nil:
		return ImpossibleRead, "which nobody added"
	case s.ops[m.add].Outcome == Failed:
		return ImpossibleRead, "whose adding had failed for certain"
	case s.ops[m.add].Start > op.End:
		return ImpossibleRead, "before anybody had begun to add it"
	case again:
		return WrongSet, "and more than once"
	}
	return "", ""
}

// complete adds an anomaly if a read lacks members.
func (s *set) complete(i int) {
	op, t := s.ops[i], s.ops[i].asOf()
	has := make(map[string]bool, len(op.Members))
	for _, value := range op.Members {
		has[value] = true
		if m := s.members[value]; m != nil {
			t = max(t, s.ops[m.add].Start)
		}
	}

	due := sort.Search(len(s.certain), func(n int) bool { return s.certain[n].from >= t })
	var lacks []*member
	for _, m := range s.certain[:due] {
		if !has[s.ops[m.add].Value] {
			lacks = append(lacks, m)
		}
	}

	if len(lacks) == 0 {
		return
	}

	first := lacks[0]
	add, shown := s.ops[first.add], s.ops[first.by]
	a := Anomaly{What: StaleRead, Key: s.name, Operations: []int{i, first.by}}
	for _, m := range lacks[:min(len(lacks), 20)] {
		a.Operations = append(a.Operations, m.add)
	}

	known := fmt.Sprintf("%q, which was acknowledged at %s", add.Value, seconds(add.End))
	if first.by != first.add {
		known = fmt.Sprintf("%q, which client %d had read at %s", add.Value, shown.Client, seconds(shown.End))
	}
	if len(lacks) > 1 {
		known += fmt.Sprintf(", and %d more", len(lacks)-1)
	}

	switch {
	case op.Final && op.master():
		a.What, a.Text = LostWrite, "the final read lacks "+known
	case first.by != first.add && op.master():
		a.What, a.Text = WrongSet, fmt.Sprintf("client %d's read at %s lacks %s", op.Client, seconds(op.End), known)
	default:
		a.Text = fmt.Sprintf("client %d's read%s at %s lacks %s", op.Client, fromWhere(op), seconds(op.End), known)
	}
	s.findings.add(a)
}

// growing adds an anomaly for two master reads that contradict each other.
func (s *set) growing(k key) {
	reads := slices.DeleteFunc(slices.Clone(k.ops), func(i int) bool { return !s.ops[i].read() || !s.ops[i].master() })
	slices.SortStableFunc(reads, func(a, b int) int { return cmp.Compare(len(s.ops[a].Members), len(s.ops[b].Members)) })
	for n := 1; n < len(reads); n++ {
		a, b := s.ops[reads[n-1]], s.ops[reads[n]]
		has := make(map[string]bool, len(b.Members))
		for _, value := range b.Members {
			has[value] = true
		}
		lacking := slices.IndexFunc(a.Members, func(value string) bool { return !has[value] })
		if lacking < 0 {
			continue
		}
		s.findings.add(Anomaly{What: WrongSet, Key: s.name, Operations: []int{reads[n-1], reads[n], s.members[a.Members[lacking]].add},
			Text: fmt.Sprintf("clients %d and %d read the set at %s and %s, and each lacks what the other has, such as %q",
				a.Client, b.Client, seconds(a.End), seconds(b.End), a.Members[lacking])})
	}
}

// sameValue returns why a key is not judged.
func sameValue(k key, value string) string {
	return fmt.Sprintf("two operations write the same value %q to the %s %s: it cannot be judged", value, k.kind, k.name)
}
