package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// step is an operation of the model.
type step struct {
	verb    Verb
	matched bool
	value   content // what the operation stores
	seen    content // what it found or expected
	// open: the operation may have happened at any time, or never. An open compare-and-set matches
	// if it can.
	open bool
}

// content is the state of a register.
type content struct {
	there bool
	text  string
}

// registerModel is a register as porcupine's model: the state is a content and the input a step,
// which includes the output.
func registerModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return content{} },
		Step: func(state, input, _ any) (bool, any) {
			return input.(step).from(state.(content))
		},
	}
}

// from reports whether the step is possible in a state, and returns the next state.
func (s step) from(state content) (bool, content) {
	switch {
	case s.verb == Read:
		return state == s.seen, state
	case s.verb == Write:
		return true, s.value
	case s.open && state == s.seen, !s.open && s.matched:
		return state == s.seen, s.value
	}
	return s.open || state != s.seen, state
}

// step returns an operation as a step of the model. An unknown operation that was kept is known to
// have happened.
func (r *register) step(i int) step {
	op := r.ops[i]
	s := step{verb: op.Verb, matched: op.Matched || op.Outcome == Unknown, value: content{true, op.Value}}
	switch op.Verb {
	case Read:
		s.seen = content{op.Found, op.Got}
	case CAS:
		s.seen = content{op.Expect != "", op.Expect}
	}
	if !s.seen.there {
		s.seen.text = ""
	}
	return s
}

// search asks porcupine for any order of the reduced operations, without the excused
// compare-and-sets that did not match. It reports whether the search took too long, or was given no
// time.
func (r *register) search(limit time.Duration) (findings, bool) {
	kept := r.kept()
	result, info := porcupine.Unknown, porcupine.LinearizationInfo{}
	if limit > 0 {
		list := make([]porcupine.Operation, len(kept))
		for n, i := range kept {
			list[n] = porcupine.Operation{
				ClientId: r.ops[i].Client, Input: r.step(i),
				Call: int64(r.ops[i].Start), Return: int64(r.end(i)),
			}
		}
		result, info = porcupine.CheckOperationsVerbose(registerModel(), list, limit)
	}
	switch result {
	case porcupine.Ok:
	case porcupine.Illegal:
		r.noOrder(kept, info)
	default:
		r.findings.undecided = append(r.findings.undecided, fmt.Sprintf(
			"the register %s, with %d operations, was searched for an order for %v, and neither one was found nor that there is none", r.key.name, len(kept), limit))
	}
	return r.findings, result == porcupine.Unknown
}

// kept returns the operations that an order has to contain.
func (r *register) kept() []int {
	var kept []int
	for _, v := range r.values {
		kept = append(kept, keep(v.write)...)
		for _, i := range v.seen {
			if r.ops[i].Verb == Read {
				kept = append(kept, i)
			}
		}
	}
	for _, u := range r.unmatched {
		if !u.excused {
			kept = append(kept, u.op)
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}

// noOrder adds that porcupine found that there is no order. The anomaly is shown at the first
// operation that the longest partial order lacks.
func (r *register) noOrder(kept []int, info porcupine.LinearizationInfo) {
	a := Anomaly{What: NotLinearizable, Key: r.key.name}
	var longest []int
	for _, partition := range info.PartialLinearizations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	in := map[int]bool{}
	for _, n := range longest {
		in[kept[n]] = true
	}
	stop := -1
	for _, i := range kept {
		if !in[i] && (stop < 0 || r.end(i) < r.end(stop)) {
			stop = i
		}
	}
	a.Text = "no order of the operations explains all answers"
	if stop >= 0 {
		op := r.ops[stop]
		a.Text += fmt.Sprintf("; of %d, at most %d can be put in order, and then comes the %s of client %d at %s",
			len(kept), len(longest), op.Verb, op.Client, seconds(op.Start))
		a.Operations = []int{stop}
	}
	for _, n := range longest[max(0, len(longest)-5):] {
		a.Operations = append(a.Operations, kept[n])
	}
	r.addSurrounding(&a)
	r.add(a)
}
