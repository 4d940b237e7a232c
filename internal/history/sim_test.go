package history

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// bug is something that a service does wrong.
type bug string

const (
	noBug          bug = ""
	losesAcked     bug = "acknowledges before replicas have it, and loses it at the failover"
	countsTwice    bug = "repeats an increment whose answer was lost"
	readsStale     bug = "lets a deposed master answer reads"
	dropsMember    bug = "drops a member that was added"
	matchesWrongly bug = "matches a compare-and-set against what is not there"
	refusesWrongly bug = "does not match a compare-and-set against what is there"
	replicaTooOld  bug = "lets a replica that is too far behind answer"
	showsFailed    bug = "carries out what it said had failed"
)

// simulation is a service with one master, as its clients see it. Each operation takes effect at
// one moment between its start and its end. During a failover no operation takes effect for a
// while, and answers are lost.
type simulation struct {
	rnd   *rand.Rand
	bug   bug
	fired int // how often the bug changed an answer
	now   time.Duration
	queue events
	serial,
	operation int

	rate, clients, registers, counters, sets int
	length                                   time.Duration
	unknown                                  int // percent of the operations under way at a failover; the others are not
	failovers                                []time.Duration
	outage                                   time.Duration
	lost                                     int  // percent of requests sent during an outage whose answer is lost
	replicas                                 bool // reads from replicas and caches as well

	state map[string][]snapshot
	known map[string]string // what clients last read of a register
	acked map[int]bool      // operations that were acknowledged
	ops   []Operation
}

// call is an operation under way.
type call struct {
	Operation
	id int
}

// snapshot is the content of a key from a time on.
type snapshot struct {
	by      int // the operation that made it
	from    time.Duration
	value   content
	number  int64
	members []string
}

type event struct {
	at     time.Duration
	serial int
	do     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].serial, e[j].serial)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newSimulation(seed uint64, b bug) *simulation {
	return &simulation{
		rnd: rand.New(rand.NewPCG(seed, 7)), bug: b,
		rate: 400, clients: 16, registers: 3, counters: 2, sets: 2, length: 3 * time.Second,
		failovers: []time.Duration{1000 * ms}, outage: 600 * ms, unknown: 40, lost: 20, replicas: true,
		state: map[string][]snapshot{}, known: map[string]string{}, acked: map[int]bool{},
	}
}

func (s *simulation) at(t time.Duration, do func()) {
	s.serial++
	heap.Push(&s.queue, event{t, s.serial, do})
}

func (s *simulation) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.rnd.Int64N(int64(b-a)+1))
}

// run returns the history of a whole drill.
func (s *simulation) run() History {
	step := time.Second / time.Duration(s.rate)
	perClient := make([][]time.Duration, s.clients)
	for n := range int(s.length / step) {
		perClient[n%s.clients] = append(perClient[n%s.clients], time.Duration(n)*step)
	}
	for c, due := range perClient {
		s.client(c, due)
	}
	for _, t := range s.failovers {
		if s.bug == losesAcked {
			s.at(t+s.outage-1, func() { s.rollBack(t - 20*ms) })
		}
	}
	for len(s.queue) > 0 {
		e := heap.Pop(&s.queue).(event)
		s.now = max(s.now, e.at)
		e.do()
	}
	s.readAll()
	for len(s.queue) > 0 {
		e := heap.Pop(&s.queue).(event)
		s.now = max(s.now, e.at)
		e.do()
	}
	return s.history()
}

// history returns what was recorded, with what a drill records about itself.
func (s *simulation) history() History {
	slices.SortStableFunc(s.ops, func(a, b Operation) int { return cmp.Compare(a.End, b.End) })
	h := History{ID: "sim", Rate: s.rate, Clients: s.clients, LoadEnd: s.length, Operations: s.ops}
	for _, t := range s.failovers {
		h.Faults = append(h.Faults, Fault{
			Name: "master killed", Promise: Promise{Failed: Any, Unknown: Any, Pause: 3 * time.Second},
			Began: t, Moments: []time.Duration{t}, Undone: t + s.outage, Healthy: t + s.outage + 100*ms, Evidence: "its process is gone",
		})
	}
	return h
}

// client runs one client's operations, one after the other.
func (s *simulation) client(c int, due []time.Duration) {
	if len(due) == 0 {
		return
	}
	s.at(max(due[0], s.now), func() {
		op := s.invent(c)
		op.Due, op.Start = due[0], s.now
		s.send(op, func() { s.client(c, due[1:]) })
	})
}

// invent returns a random operation.
func (s *simulation) invent(c int) call {
	s.operation++
	op := call{Operation{Client: c, Outcome: OK, Value: fmt.Sprintf("v%d", s.operation)}, s.operation}
	n := s.rnd.IntN(s.registers*2 + s.counters + s.sets)
	dice := s.rnd.IntN(10)
	switch {
	case n < 2*s.registers:
		op.Kind, op.Key = Register, fmt.Sprintf("r%d", n/2)
		op.Verb = []Verb{Read, Read, Read, Read, Write, Write, Write, CAS, CAS, CAS}[dice]
		if op.Verb == CAS {
			op.Expect = s.known[op.Key]
		}
	case n < 2*s.registers+s.counters:
		op.Kind, op.Key = Counter, fmt.Sprintf("c%d", n-2*s.registers)
		op.Verb = []Verb{Read, Increment}[dice/5]
	default:
		op.Kind, op.Key = Set, fmt.Sprintf("s%d", n-2*s.registers-s.counters)
		op.Verb = []Verb{Read, Add}[dice/5]
	}
	if op.Verb == Read || op.Verb == Increment {
		op.Value = ""
	}
	if op.Verb == Read && s.replicas && s.rnd.IntN(3) == 0 {
		op.From, op.MaxAge = "replica", 300*ms
		if s.rnd.IntN(3) == 0 {
			op.From = "cached"
		}
	}
	return op
}

// outageAt returns when the failover under way at t is over; 0: no failover.
func (s *simulation) outageAt(t time.Duration) time.Duration {
	for _, at := range s.failovers {
		if t >= at && t < at+s.outage {
			return at + s.outage
		}
	}
	return 0
}

// blow returns when the master dies between two times; 0: it does not.
func (s *simulation) blow(from, to time.Duration) time.Duration {
	for _, at := range s.failovers {
		if from <= at && at <= to {
			return at
		}
	}
	return 0
}

// send makes an operation take effect, and its client learn the result.
func (s *simulation) send(op call, then func()) {
	effect := s.now + s.between(ms/10, 3*ms)
	if s.rnd.IntN(100) == 0 {
		effect += s.between(0, 40*ms)
	}
	answer := effect + s.between(ms/10, 3*ms)
	if at := s.blow(s.now, answer); at > 0 && s.rnd.IntN(100) < s.unknown {
		s.lose(op, at, effect, then)
		return
	}
	if s.outageAt(s.now) > 0 && s.rnd.IntN(100) < s.lost {
		s.lose(op, s.now, effect, then)
		return
	}
	if over := s.outageAt(effect); over > 0 {
		effect = over + s.between(0, 20*ms)
		answer = effect + s.between(ms/10, 10*ms)
	}
	s.at(effect, func() {
		done := s.apply(op)
		if s.bug == countsTwice && op.Verb == Increment && s.rnd.IntN(40) == 0 {
			done, s.fired = s.apply(op), s.fired+1
		}
		s.at(answer, func() {
			done.End = s.now
			s.record(done)
			then()
		})
	})
}

// lose loses an answer at a blow. The operation is then unknown: it took effect before the blow, or
// does so after the failover, much later, or never.
func (s *simulation) lose(op call, blow, effect time.Duration, then func()) {
	op.Outcome = Unknown
	if s.rnd.IntN(5) == 0 || s.bug == showsFailed {
		op.Outcome = Failed
	}
	over := s.outageAt(blow)
	when := []time.Duration{effect, over + s.between(0, 20*ms), over + s.between(0, time.Second), never}[s.rnd.IntN(4)]
	switch {
	case op.Outcome == Failed && s.bug != showsFailed, when == effect && (effect >= blow || s.outageAt(effect) > 0):
	case when < never:
		s.at(when, func() {
			s.apply(op)
			if op.Outcome == Failed && (op.Kind == Counter || op.Kind == Set) && op.writes() {
				s.fired++
			}
		})
	}
	s.at(blow+s.between(ms, 2*s.outage), func() {
		op.End = s.now
		s.record(op)
		then()
	})
}

// record records what a client was told.
func (s *simulation) record(op call) {
	if op.Outcome != OK {
		op.Matched, op.Found, op.Got, op.Number, op.Members = false, false, "", 0, nil
	}
	if op.acknowledged() {
		s.acked[op.id] = true
	}
	if op.read() && op.Kind == Register {
		s.known[op.Key] = op.Got
	}
	s.ops = append(s.ops, op.Operation)
}

// when returns the content of a key at a time.
func (s *simulation) when(key string, t time.Duration) snapshot {
	for _, v := range slices.Backward(s.state[key]) {
		if v.from <= t {
			return v
		}
	}
	return snapshot{}
}

// chance reports whether the bug shows itself this time.
func (s *simulation) chance(b bug, oneIn int) bool {
	return s.bug == b && s.rnd.IntN(oneIn) == 0
}

// apply makes an operation take effect now, and returns it with its answer.
func (s *simulation) apply(op call) call {
	v := s.when(op.Key, s.now)
	next := v
	next.from, next.by = s.now, op.id
	switch op.Verb {
	case Read:
		return s.read(op)
	case Write:
		next.value = content{true, op.Value}
	case CAS:
		op.Matched = v.value.there == (op.Expect != "") && v.value.text == op.Expect
		if !op.Matched && op.Expect != "" && s.chance(matchesWrongly, 8) {
			op.Matched = true
			s.fired++
		} else if op.Matched && s.chance(refusesWrongly, 8) {
			op.Matched = false
			s.fired++
		}
		if !op.Matched {
			return op
		}
		next.value = content{true, op.Value}
	case Increment:
		next.number++
		op.Number = next.number
	case Add:
		if s.chance(dropsMember, 50) {
			s.fired++
			return op
		}
		next.members = append(slices.Clone(v.members), op.Value)
	}
	s.state[op.Key] = append(s.state[op.Key], next)
	return op
}

// read answers a read: with the present state of the master, or with a state of up to MaxAge before
// the start for other sources.
func (s *simulation) read(op call) call {
	asOf := s.now
	if !op.master() {
		asOf = s.between(max(op.Start-op.MaxAge, 0), s.now)
	}
	if op.master() && !op.Final && s.blow(s.now-s.outage-time.Second, s.now) > 0 && s.chance(readsStale, 10) ||
		!op.master() && s.chance(replicaTooOld, 10) {
		asOf = op.asOf() - 100*ms
		if s.when(op.Key, asOf).by != s.when(op.Key, op.asOf()-10*ms).by {
			s.fired++
		}
	}
	v := s.when(op.Key, asOf)
	op.Found, op.Got, op.Number, op.Members = v.value.there, v.value.text, v.number, v.members
	return op
}

// rollBack loses everything that took effect since a time.
func (s *simulation) rollBack(to time.Duration) {
	for key, versions := range s.state {
		for len(versions) > 0 && versions[len(versions)-1].from > to {
			if s.acked[versions[len(versions)-1].by] {
				s.fired++
			}
			versions = versions[:len(versions)-1]
		}
		s.state[key] = versions
	}
}

// readAll reads every key at the end.
func (s *simulation) readAll() {
	kinds := map[string]Kind{}
	for _, op := range s.ops {
		kinds[op.Key] = op.Kind
	}
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		op := call{Operation{Kind: kinds[key], Key: key, Verb: Read, Final: true, Outcome: OK, Due: s.now, Start: s.now}, -1}
		s.send(op, func() {})
	}
}

func TestATrueServiceIsNeverConvicted(t *testing.T) {
	t.Parallel()
	seeds := 60
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		s := newSimulation(uint64(seed), noBug)
		vary(s, seed)
		h := s.run()
		v := Judge(h)
		if v.Result != Holds {
			t.Fatalf("seed %d: %s: %v", seed, v.Result, v.Why)
		}
	}
}

// vary makes the simulations differ in size, and in how many clients compete for a key.
func vary(s *simulation, seed int) {
	switch seed % 4 {
	case 1:
		s.registers, s.clients, s.failovers = 1, 40, []time.Duration{800 * ms, 2000 * ms}
	case 2:
		s.unknown, s.clients, s.registers = 100, 60, 2
	case 3:
		s.failovers, s.rate = nil, 1000
	}
}

func TestABrokenServiceIsConvicted(t *testing.T) {
	t.Parallel()
	seeds := 12
	if testing.Short() {
		seeds = 8
	}
	for _, b := range []bug{losesAcked, countsTwice, readsStale, dropsMember, matchesWrongly, refusesWrongly, replicaTooOld, showsFailed} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			fired, convicted := 0, 0
			kinds := map[string]int{}
			for seed := range seeds {
				s := newSimulation(uint64(seed), b)
				if b == showsFailed { // of what is lost only
					s.lost, s.counters = 60, 6
				}
				v := Judge(s.run())
				if s.fired == 0 {
					continue
				}
				fired++
				if v.Result == Broken {
					convicted++
				}
				for _, a := range v.Anomalies {
					kinds[a.What]++
				}
			}
			t.Logf("fired in %d of %d, convicted %d: %v", fired, seeds, convicted, kinds)
			if fired < seeds/2 || convicted*100 < fired*90 {
				t.Errorf("the bug fired in %d of %d histories, and %d were convicted", fired, seeds, convicted)
			}
		})
	}
}
