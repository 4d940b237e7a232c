// Package report shows people what a drill found: as one self-contained HTML page (page.go, with
// the pictures in timeline.go, closeup.go and spacetime.go), as a summary for a terminal (text.go),
// as JSON for machines (summary.go), and as a line of progress while the drill runs (live.go).
//
// It judges nothing, which is the task of package history, and opens no file. The texts in a
// history come from other programs. They are cleaned before they are shown, so that neither a
// terminal nor a browser obeys them.
package report

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/quote"
)

// Limits of what is shown. A page is for a person; the raw history has everything.
const (
	shownAnomalies  = 20  // on the page
	shownOperations = 48  // around one anomaly
	shownCloseUps   = 16  // faults
	shownTroubled   = 200 // failed and unknown operations
	shownLines      = 200 // reasons, warnings, notices
	longText        = 600 // characters of one sentence
)

// result is a drill prepared for display: every text is cleaned, and each part of the verdict is
// next to what it is about.
type result struct {
	history.History
	Verdict history.Verdict
	Rows    []row
	Proofs  []proof
	// Left is the number of anomalies that are not among Proofs.
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
	// Left is the number of operations that are not among Around.
	Left int
}

// prepare returns a cleaned copy of a history and its verdict, with at most that many anomalies.
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
			one.Cost.Recovery = -1 // this fault was not judged
		}
		r.Rows = append(r.Rows, one)
	}

	for i, a := range v.Anomalies[:min(len(v.Anomalies), anomalies)] {
		r.Proofs = append(r.Proofs, newProof(h, i+1, a))
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

// newProof returns an anomaly with its operations.
func newProof(h history.History, n int, a history.Anomaly) proof {
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

// end returns the end of the time axis: the end of the load, of the faults, and of the notices. The
// final reads after the load are not on the axis.
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

// Over reports whether clients waited longer than promised.
func (r row) Over() bool { return r.Promise.Pause > 0 && r.Cost.Pause > r.Promise.Pause }

// Elsewhere returns how long the clients waited whose entry was not cut off, in words. It is empty
// if no entry was cut off, because that time is then the pause itself.
func (r row) Elsewhere() string {
	if len(r.Entries) == 0 || r.Began < 0 {
		return ""
	}
	text := "clients whose entry was not cut off waited " + formatDuration(r.Cost.Elsewhere) + " at the longest"
	if r.Promise.PauseElsewhere > 0 {
		text += ", " + formatDuration(r.Promise.PauseElsewhere) + " promised"
	}
	return text
}

// name returns the fault's name followed by its targets.
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
