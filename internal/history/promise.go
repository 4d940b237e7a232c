package history

import (
	"fmt"
	"slices"
	"time"
)

// margin is how far from an injection an operation may end, or start, and still count as under way
// at it. The drill records the moments of injections, and cannot know to the microsecond when a
// process dies.
const margin = 50 * time.Millisecond

// promises returns, in sentences, where more operations failed or are unknown than the faults
// allow. Each such operation of the load has to overlap a fault, from Began to Healthy, whose
// promise allows it. If several faults overlap it and one of them allows any number, the operation
// counts against none of them. Otherwise it counts for the first.
func promises(h History) []string {
	outside := excess{}
	faults := make([]map[Outcome]*excess, len(h.Faults))
	inFlight := make([]int, len(h.Faults))
	for i := range faults {
		faults[i] = map[Outcome]*excess{Failed: {}, Unknown: {}}
	}
	for _, op := range loadOperations(h) {
		if op.Outcome == OK {
			continue
		}
		switch at, how := chargedTo(h, op); {
		case at < 0:
			outside.add(op)
		case how == None:
			faults[at][op.Outcome].add(op)
		case how == InFlight:
			inFlight[at]++
		}
	}

	var why []string
	if outside.n > 0 {
		why = append(why, fmt.Sprintf("%s failed or unknown outside of every fault; the first: %s",
			plural(outside.n, "operation is", "operations are"), outside.first.brief()))
	}

	for i, f := range h.Faults {
		for _, outcome := range []Outcome{Failed, Unknown} {
			allowed := f.allows(outcome)
			e := faults[i][outcome]
			if e.n == 0 {
				continue
			}
			promise := "none may be"
			switch allowed {
			case InFlight:
				promise = "only those under way at the blow may be"
			case CutOff:
				promise = "only those under way at the blow may be, and those sent to an entry that was cut off"
				if f.DetectionDelay > 0 {
					promise += fmt.Sprintf(", or, for %s, passed on to what was", seconds(f.DetectionDelay))
				}
			}
			why = append(why, fmt.Sprintf("fault %q at %s: %s %s, and %s; the first: %s", f.Name, seconds(f.Began),
				plural(e.n, "operation is", "operations are"), outcome, promise, e.first.brief()))
		}
		if most := h.Clients * len(f.injections()); inFlight[i] > most {
			why = append(why, fmt.Sprintf("fault %q at %s: %d operations are failed or unknown, and at most %d can have been under way",
				f.Name, seconds(f.Began), inFlight[i], most))
		}
	}
	return why
}

// harms returns, in sentences, what faults did to others although their promises rule it out.
func harms(h History) []string {
	var why []string
	for _, f := range h.Faults {
		for _, harm := range f.Harm {
			if f.Promise.Binding {
				why = append(why, fmt.Sprintf("fault %q at %s: %s", f.Name, seconds(f.Began), harm))
			}
		}
	}
	return why
}

// wrongs returns, in sentences, the wrong answers to the faults' own requests.
func wrongs(h History) []string {
	var why []string
	for _, f := range h.Faults {
		for _, wrong := range f.Wrong {
			why = append(why, fmt.Sprintf("fault %q at %s: %s", f.Name, seconds(f.Began), wrong))
		}
	}
	return why
}

// longPauses returns where a client waited longer than a binding promise allows.
func longPauses(h History, faults []FaultAvailability) []string {
	var why []string
	for i, f := range h.Faults {
		if f.Promise.Binding && f.Promise.Pause > 0 && faults[i].Pause > f.Promise.Pause {
			why = append(why, waited(f, faults[i].Pause))
		}
	}
	return why
}

// waited formats that a client waited longer than promised.
func waited(f Fault, pause time.Duration) string {
	return fmt.Sprintf("fault %q at %s: a client waited %s, and %s was promised", f.Name, seconds(f.Began), seconds(pause), seconds(f.Promise.Pause))
}

// excess counts operations that no promise allows.
type excess struct {
	n     int
	first Operation
}

func (e *excess) add(op Operation) {
	if e.n == 0 {
		e.first = op
	}
	e.n++
}

// chargedTo returns the fault that an operation is charged to, and the allowance that covers it:
// Any, InFlight, or None if it breaks the fault's promise. The index is negative if no fault
// overlaps the operation.
func chargedTo(h History, op Operation) (int, Allowance) {
	at, how := -1, None
	for i, f := range h.Faults {
		if f.Began < 0 || op.End < f.Began || f.Healthy >= 0 && op.Start > f.Healthy {
			continue
		}
		switch allowed := f.allows(op.Outcome); {
		case allowed == Any, allowed == CutOff && slices.Contains(f.Entries, op.Entry):
			return i, Any
		case (allowed == InFlight && f.hit(op) || allowed == CutOff && (f.hit(op) || f.swallowedByCut(op))) && how != InFlight:
			at, how = i, InFlight
		case at < 0:
			at = i
		}
	}
	return at, how
}

// allows returns the allowance for an outcome; None if the promise does not mention it.
func (f Fault) allows(outcome Outcome) Allowance {
	allowed := f.Promise.Failed
	if outcome == Unknown {
		allowed = f.Promise.Unknown
	}
	if allowed != Any && allowed != InFlight && allowed != CutOff {
		return None
	}
	return allowed
}

// injections returns the fault's moments, or its beginning if it has none.
func (f Fault) injections() []time.Duration {
	if len(f.Moments) == 0 {
		return []time.Duration{f.Began}
	}
	return f.Moments
}

// hit reports whether an operation was under way at one of the injections.
func (f Fault) hit(op Operation) bool {
	for _, at := range f.injections() {
		if op.Start <= at+margin && at-margin <= op.End {
			return true
		}
	}
	return false
}

// HTTP status codes of a balancer that got no valid response (RFC 9110).
const (
	badGateway     = 502
	gatewayTimeout = 504
)

// swallowedByCut reports whether a balancer may have passed an operation on to a node that was cut
// off, before it noticed. Such an operation has no answer, or the balancer's own 502 or 504. A 503
// of the balancer was not passed on to any node.
func (f Fault) swallowedByCut(op Operation) bool {
	switch op.Status {
	case 0, badGateway, gatewayTimeout:
	default:
		return false
	}
	return op.Node == "" && slices.ContainsFunc(f.injections(), func(at time.Duration) bool {
		until := at + f.DetectionDelay
		if f.Undone >= 0 {
			until = min(until, f.Undone)
		}
		return op.Start >= at && op.Start <= until
	})
}

// brief describes an operation in a few words.
func (op Operation) brief() string {
	text := fmt.Sprintf("client %d's %s of %s, from %s to %s", op.Client, op.Verb, op.Key, seconds(op.Start), seconds(op.End))
	if op.Status != 0 {
		text += fmt.Sprintf(", status %d", op.Status)
	}
	if op.Error != "" {
		text += ", " + op.Error
	}
	return text
}
