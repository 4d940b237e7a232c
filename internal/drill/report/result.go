// Package report shows people what a drill found: one self-contained page of
// HTML, a summary for a terminal, the same for machines as JSON, and a line of
// progress while the drill runs. It judges nothing, that is package history's
// affair, and opens no file. Whatever stands in a history was written by
// others: it is shown, and never obeyed by a terminal or a browser.
package report

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/quote"
)

// How much is shown: a page is read by a person, and the raw history is kept.
const (
	shownAnomalies  = 20  // on the page
	shownOperations = 48  // around one anomaly
	shownCloseUps   = 16  // faults
	shownTroubled   = 200 // failed and unknown operations
	shownLines      = 200 // reasons, warnings, notices
	longText        = 600 // characters of one sentence
)

// result is a drill made ready to be shown: every text of it is clean, and
// the verdict's parts stand beside what they are about.
type result struct {
	history.History
	Verdict history.Verdict
	Rows    []row
	Proofs  []proof
	// Left counts the anomalies that are not among Proofs.
	Left int
	// Word is the result in one word.
	Word string
}

// row is one fault and what it cost.
type row struct {
	N int // counted from 1
	history.Fault
	Cost history.FaultAvailability
}

// proof is one anomaly with its operations, in the order of their start.
type proof struct {
	N int
	history.Anomaly
	Around []history.Operation
	// Left counts the operations that are not among Around.
	Left int
}

// prepare cleans a history and its verdict; it changes neither. At most so
// many anomalies are kept.
func prepare(h history.History, v history.Verdict, anomalies int) result {
	r := result{History: h, Verdict: v, Word: quote.Cut(string(v.Result), 16)}
	if r.Word == "" {
		r.Word = "no verdict"
	}
	r.URLs = sentences(h.URLs)
	for _, s := range []*string{&r.ID, &r.Stack, &r.App, &r.Holdfast, &r.Repeat, &r.SickBefore, &r.SickAfter} {
		*s = quote.Cut(*s, longText)
	}
	r.Verdict.Why = sentences(v.Why)
	r.Verdict.Warnings = sentences(v.Warnings)
	r.Notices = nil
	for _, n := range h.Notices[:min(len(h.Notices), shownLines)] {
		r.Notices = append(r.Notices, history.Notice{At: n.At, Node: quote.Cut(n.Node, 40), Text: quote.Cut(n.Text, longText)})
	}
	for i, f := range h.Faults {
		f.Name, f.Evidence, f.Trouble = quote.Cut(f.Name, 60), quote.Cut(f.Evidence, longText), quote.Cut(f.Trouble, longText)
		f.Harm = sentences(f.Harm)
		f.Targets = slices.Clone(f.Targets)
		for j := range f.Targets {
			f.Targets[j] = quote.Cut(f.Targets[j], 40)
		}
		one := row{N: i + 1, Fault: f}
		if i < len(v.Faults) {
			one.Cost = v.Faults[i]
		} else {
			one.Cost.Recovery = -1 // it was not judged
		}
		r.Rows = append(r.Rows, one)
	}
	for i, a := range v.Anomalies[:min(len(v.Anomalies), anomalies)] {
		r.Proofs = append(r.Proofs, prove(h, i+1, a))
	}
	r.Left = len(v.Anomalies) - len(r.Proofs)
	return r
}

func sentences(all []string) []string {
	var some []string
	for _, s := range all[:min(len(all), shownLines)] {
		some = append(some, quote.Cut(s, longText))
	}
	if left := len(all) - len(some); left > 0 {
		some = append(some, "and "+number(left)+" more")
	}
	return some
}

// prove gathers the operations of an anomaly.
func prove(h history.History, n int, a history.Anomaly) proof {
	p := proof{N: n, Anomaly: a}
	p.What, p.Key, p.Text = quote.Cut(a.What, 60), quote.Cut(a.Key, 80), quote.Cut(a.Text, longText)
	for _, i := range a.Operations {
		switch {
		case i < 0 || i >= len(h.Operations):
		case len(p.Around) == shownOperations:
			p.Left++
		default:
			p.Around = append(p.Around, h.Operations[i])
		}
	}
	slices.SortStableFunc(p.Around, func(a, b history.Operation) int { return cmp.Compare(a.Start, b.Start) })
	return p
}

// end is when everything was over that has a place on the time axis: the
// load, the faults, the notices. The reads after the load have none.
func (r result) end() time.Duration {
	end := r.LoadEnd
	for _, op := range r.Operations {
		if !op.Final {
			end = max(end, op.End, op.Due)
		}
	}
	for _, f := range r.Faults {
		end = max(end, f.Began, f.Undone, f.Healthy)
		for _, m := range f.Moments {
			end = max(end, m)
		}
	}
	for _, n := range r.Notices {
		end = max(end, n.At)
	}
	return end
}

// Over says that clients waited longer than they should.
func (r row) Over() bool { return r.Promise.Pause > 0 && r.Cost.Pause > r.Promise.Pause }

// Elsewhere says how long clients waited whose entry was not cut off; empty
// where no entry was, since that is the pause then.
func (r row) Elsewhere() string {
	if len(r.Entries) == 0 || r.Began < 0 {
		return ""
	}
	text := "clients whose entry was not cut off waited " + span(r.Cost.Elsewhere) + " at the longest"
	if r.Promise.PauseElsewhere > 0 {
		text += ", " + span(r.Promise.PauseElsewhere) + " promised"
	}
	return text
}

// name is the fault's with its targets.
func (r row) name() string {
	s := r.Name
	for i, t := range r.Targets {
		if i > 0 {
			s += ","
		}
		s += " " + t
	}
	return s
}
