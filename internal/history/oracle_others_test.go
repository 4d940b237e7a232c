package history

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// porcupineResultOf asks porcupine about a counter's or a set's operations, without any reduction.
// The state is the number, or the set of members as bits.
func porcupineResultOf(ops []Operation) porcupine.CheckResult {
	bits := map[string]uint64{}
	for _, op := range ops {
		if op.Verb == Add {
			bits[op.Value] = 1 << len(bits)
		}
	}
	model := porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, input, _ any) (bool, any) {
			s, op := state.(uint64), input.(Operation)
			switch {
			case op.Verb == Increment:
				return op.Outcome == Unknown || op.Number == int64(s)+1, s + 1
			case op.Verb == Add:
				return true, s | bits[op.Value]
			case op.Kind == Counter:
				return op.Number == int64(s), s
			}
			members := uint64(0)
			for _, m := range op.Members {
				members |= bits[m]
			}
			return members == s, s
		},
	}
	var list []porcupine.Operation
	for _, op := range ops {
		end := op.End
		switch {
		case op.Outcome == Failed, op.Outcome == Unknown && op.Verb == Read:
			continue
		case op.Outcome == Unknown:
			end = never
		}
		list = append(list, porcupine.Operation{Input: op, Call: int64(op.Start), Return: int64(end)})
	}
	return porcupine.CheckOperationsTimeout(model, list, 10*time.Second)
}

// arbitraryOther returns a small random history of a counter or a set. It need not be legal.
func arbitraryOther(rnd *rand.Rand, kind Kind, n, span int) []Operation {
	var ops []Operation
	for i := range n {
		op := Operation{Client: i, Kind: kind, Key: "k", Verb: Read, Outcome: OK}
		op.Start = time.Duration(rnd.IntN(span))
		op.End = op.Start + time.Duration(rnd.IntN(span/2+1))
		if op.Outcome = OK; rnd.IntN(5) == 0 {
			op.Outcome = Unknown
		}
		writes := rnd.IntN(2) == 0
		switch {
		case kind == Counter && writes:
			op.Verb, op.Number = Increment, 1+rnd.Int64N(3)
		case kind == Counter:
			op.Number = rnd.Int64N(3)
		case writes:
			op.Verb, op.Value = Add, fmt.Sprint("m", i)
		}
		ops = append(ops, op)
	}
	for i := range ops {
		if kind != Set || ops[i].Verb != Read {
			continue
		}
		for _, other := range ops { // most of the members that may have been there
			if other.Verb == Add && other.Start <= ops[i].End && rnd.IntN(4) > 0 {
				ops[i].Members = append(ops[i].Members, other.Value)
			}
		}
	}
	return ops
}

// Counters and sets are convicted exactly when porcupine finds no order.
func TestCountersAndSetsAreJudgedAsPorcupineJudgesThem(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Counter, Set} {
		legal, illegal := 0, 0
		for seed := range 6000 {
			rnd := rand.New(rand.NewPCG(uint64(seed), 3))
			ops := arbitraryOther(rnd, kind, 2+rnd.IntN(7), 4+rnd.IntN(40))
			var found findings
			if k := byKey(History{Operations: ops})[0]; kind == Counter {
				found = judgeCounter(ops, k)
			} else {
				found = judgeSet(ops, k)
			}
			want := porcupineResultOf(ops)
			switch text := strings.Join(History{Operations: ops}.Explain(Anomaly{Operations: all(ops)}), "\n"); {
			case want == porcupine.Ok && len(found.anomalies) > 0:
				t.Fatalf("seed %d: convicted, though porcupine finds an order: %v\n%s", seed, found.anomalies, text)
			case want == porcupine.Ok:
				legal++
			case len(found.anomalies) == 0:
				t.Fatalf("seed %d: not convicted, though porcupine finds no order\n%s", seed, text)
			default:
				illegal++
			}
		}
		t.Logf("%s: %d linearizable, %d not", kind, legal, illegal)
		if legal < 500 || illegal < 500 {
			t.Error("the histories do not try both sides")
		}
	}
}
