package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// porcupineResult asks porcupine about a register's operations, without any reduction: unknown
// writes may happen at any later time, and nothing that matters is left out.
func porcupineResult(ops []Operation, only []int) porcupine.CheckResult {
	r := register{ops: ops}
	var list []porcupine.Operation
	for _, i := range only {
		op := ops[i]
		if op.Outcome == Failed || op.Verb == Read && (op.Outcome != OK || !op.master()) {
			continue
		}
		s, end := r.step(i), int64(op.End)
		if op.Outcome == Unknown {
			s.open, end = true, int64(never)
		}
		list = append(list, porcupine.Operation{ClientId: op.Client, Input: s, Call: int64(op.Start), Return: end})
	}
	return porcupine.CheckOperationsTimeout(registerModel(), list, 10*time.Second)
}

// arbitrary returns a small random history of one register. Some are linearizable, most are not.
func arbitrary(rnd *rand.Rand, n, span int) []Operation {
	var ops []Operation
	names := []string{""}
	for i := range n {
		op := Operation{Client: i, Kind: Register, Key: "r", Outcome: OK}
		op.Start = time.Duration(rnd.IntN(span))
		op.End = op.Start + time.Duration(rnd.IntN(span/2+1))
		if rnd.IntN(6) == 0 {
			op.Outcome = Unknown
		} else if rnd.IntN(20) == 0 {
			op.Outcome = Failed
		}
		some := names[rnd.IntN(len(names))]
		switch rnd.IntN(7) {
		case 0, 1:
			op.Verb = Write
		case 2, 3:
			op.Verb, op.Expect, op.Matched = CAS, some, op.Outcome == OK && rnd.IntN(2) == 0
		default:
			op.Verb, op.Got, op.Found = Read, some, some != ""
			if op.Outcome != OK {
				op.Got, op.Found = "", false
			}
		}
		if op.writes() {
			op.Value = fmt.Sprint("v", i)
			names = append(names, op.Value)
		}
		ops = append(ops, op)
	}
	return ops
}

func all(ops []Operation) []int {
	var indices []int
	for i := range ops {
		indices = append(indices, i)
	}
	return indices
}

// The judgement of a register agrees with porcupine's on the unreduced history.
func TestARegisterIsJudgedAsPorcupineJudgesTheWholeHistory(t *testing.T) {
	t.Parallel()
	rounds := 10000
	if testing.Short() {
		rounds = 5000
	}
	legal, illegal, excused := 0, 0, 0
	for seed := range rounds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 1))
		ops := arbitrary(rnd, 2+rnd.IntN(8), 4+rnd.IntN(40))
		k := byKey(History{Operations: ops})[0]
		found, _ := judgeRegister(ops, k, time.Minute)
		switch want := porcupineResult(ops, all(ops)); {
		case want == porcupine.Ok && len(found.anomalies) > 0:
			t.Fatalf("seed %d: convicted, though porcupine finds an order: %v\n%s", seed, found.anomalies,
				strings.Join(History{Operations: ops}.Explain(Anomaly{Operations: all(ops)}), "\n"))
		case want == porcupine.Illegal && len(found.anomalies) == 0:
			if mayBeExcused(ops) {
				excused++
				continue
			}
			t.Fatalf("seed %d: not convicted, though porcupine finds no order\n%s", seed,
				strings.Join(History{Operations: ops}.Explain(Anomaly{Operations: all(ops)}), "\n"))
		case want == porcupine.Ok:
			legal++
		default:
			illegal++
			checkProofs(t, seed, ops, found)
		}
	}
	t.Logf("%d linearizable, %d not, %d not and excused", legal, illegal, excused)
	if legal < rounds/20 || illegal < rounds/20 || excused > rounds/50 {
		t.Error("the histories do not try both sides")
	}
}

// mayBeExcused reports whether there is an unknown write and a compare-and-set that did not match.
func mayBeExcused(ops []Operation) bool {
	unknown, unmatched := false, false
	for _, op := range ops {
		unknown = unknown || op.writes() && op.Outcome == Unknown
		unmatched = unmatched || op.Verb == CAS && op.Outcome == OK && !op.Matched
	}
	return unknown && unmatched
}

// checkProofs checks that the operations of an anomaly, without the others, have no order either.
// Only writes whose values none of them saw may be missing.
func checkProofs(t *testing.T, seed int, ops []Operation, found findings) {
	t.Helper()
	for _, a := range found.anomalies {
		if len(a.Operations) == 0 || a.Text == "" || a.Key != "r" {
			t.Fatalf("seed %d: an anomaly without proof: %+v", seed, a)
		}
		if got := porcupineResult(ops, closed(ops, a.Operations)); got != porcupine.Illegal {
			t.Fatalf("seed %d: the operations of %q have an order by themselves:\n%s\nof\n%s", seed, a.Text,
				strings.Join(History{Operations: ops}.Explain(a), "\n"),
				strings.Join(History{Operations: ops}.Explain(Anomaly{Operations: all(ops)}), "\n"))
		}
	}
}

// closed returns operations, with the writes of all values that they name.
func closed(ops []Operation, some []int) []int {
	writers := map[string]int{}
	for i, op := range ops {
		if op.writes() {
			writers[op.Value] = i
		}
	}
	some = slices.Clone(some)
	for n := 0; n < len(some); n++ {
		op := ops[some[n]]
		for _, name := range []string{op.Got, op.Expect} {
			if i, is := writers[name]; is && !slices.Contains(some, i) {
				some = append(some, i)
			}
		}
	}
	return some
}

// The same holds for whole simulated drills without unknown operations, which porcupine can judge
// unreduced.
func TestSimulatedRegistersAreJudgedAsPorcupineJudgesThem(t *testing.T) {
	t.Parallel()
	legal, illegal := 0, 0
	for seed := range 6 {
		for _, b := range []bug{noBug, losesAcked, readsStale, matchesWrongly, refusesWrongly} {
			s := newSimulation(uint64(seed), b)
			s.unknown, s.lost, s.replicas = 0, 0, false
			s.registers, s.length = 8, 2*time.Second
			h := s.run()
			for _, k := range byKey(h)[:s.registers] {
				found, _ := judgeRegister(h.Operations, k, time.Minute)
				switch got := porcupineResult(h.Operations, k.ops); {
				case got == porcupine.Ok && len(found.anomalies) == 0:
					legal++
				case got == porcupine.Illegal && len(found.anomalies) > 0:
					illegal++
				default:
					t.Fatalf("seed %d, %s, %s: porcupine says %s, and found is %v", seed, b, k.name, got, found)
				}
			}
		}
	}
	t.Logf("%d linearizable, %d not", legal, illegal)
	if legal < 50 || illegal < 50 {
		t.Error("the histories do not try both sides")
	}
}

// Porcupine alone copes with unknown writes spread over many registers, but not with many on one.
func BenchmarkPorcupineAlone(b *testing.B) {
	for name, h := range map[string]History{"large": large(1), "hot": hot(1)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				undecided := 0
				for _, k := range byKey(h) {
					if k.kind == Register && porcupineResult(h.Operations, k.ops) == porcupine.Unknown {
						undecided++
					}
				}
				b.ReportMetric(float64(undecided), "undecided")
			}
		})
	}
}
