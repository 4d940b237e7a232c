package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/internal/history"
	"holdfast/internal/quote"
)

// meanings explains each result in a sentence.
var meanings = map[history.Result]string{
	history.Holds:        "Every answer was right, no acknowledged write is missing, and every promise was kept.",
	history.Missed:       "Every answer was right and no acknowledged write is missing, but these faults cost more than was promised.",
	history.Broken:       "An answer was wrong, or an acknowledged write is missing. The proof is below.",
	history.Inconclusive: "The drill could not judge: something that it takes for granted was not so. That is no pass.",
}

// ofURLs explains the results of a load on URLs.
var ofURLs = map[history.Result]string{
	history.Holds:        "Every URL was answered as expected, but for what these faults may cost.",
	history.Missed:       "More requests for URLs failed than these faults may cost.",
	history.Inconclusive: meanings[history.Inconclusive],
}

// noConsistency says what a load on URLs does not show.
const noConsistency = "Availability and latency alone were judged, and no consistency: what the answers say, a drill of URLs does not know."

// Meaning returns what the result means for this load.
func (r result) Meaning() string {
	if text, known := ofURLs[r.Verdict.Result]; known && r.OfURLs() {
		return text + " " + noConsistency
	}
	return meaning(r.Verdict.Result)
}

// meaning returns the sentence for any result, even one that this version does not know.
func meaning(r history.Result) string {
	if text, known := meanings[r]; known {
		return text
	}
	return "This is a result that this version does not know. Take it for no pass."
}

// shorten shortens a text to at most that many characters.
func shorten(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(most-1, 0)]) + "…"
}

// formatDuration formats a duration for people.
func formatDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "never"
	case d == 0:
		return "0"
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < 9950*time.Microsecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < 999500*time.Microsecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	case d < 10*time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// formatTime formats a time since the beginning of the drill.
func formatTime(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}

// promised formats the promised pause; a dash if none is promised.
func promised(p history.Promise) string {
	if p.Pause == 0 {
		return "–"
	}
	return formatDuration(p.Pause)
}

// allowed describes in words what a fault may cost.
func allowed(a history.Allowance) string {
	switch a {
	case "":
		return ""
	case history.Any:
		return "any number allowed"
	case history.InFlight:
		return "those in flight allowed"
	case history.CutOff:
		return "those in flight and at a cut-off entry allowed"
	case history.None:
		return "none allowed"
	}
	return quote.Line(string(a)) + " allowed"
}

// number formats 60000 as 60,000.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural formats a number of things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// describeOperation formats an operation and its answer as they are written in a proof: write(x),
// read→x, read(replica)→x, cas(x→y) no match. A question mark means that there was no answer.
func describeOperation(op history.Operation, most int) string {
	var s string
	switch op.Verb {
	case history.Read:
		s = "read"
		switch {
		case op.Final:
			s = "final read"
		case op.From != "" && op.From != "master":
			s = "read(" + quote.Cut(op.From, 10) + ")"
		}
		if op.Outcome == history.OK {
			s += "→" + found(op, most-len(s)-1)
		}
	case history.CAS:
		after := ""
		switch {
		case op.Outcome != history.OK:
			after = " unknown" // reserves room: " ?" or another outcome is added below
		case !op.Matched:
			after = " no match"
		}
		each := max((most-len("cas(>)")-len(after))/2, 3)
		s = "cas(" + quote.Cut(op.Expect, each) + "→" + quote.Cut(op.Value, each) + ")"
		if op.Outcome == history.OK {
			s += after
		}
	case history.Ask:
		s = "ask"
	case history.Increment:
		s = "increment"
		if op.Outcome == history.OK {
			s += "→" + strconv.FormatInt(op.Number, 10)
		}
	default:
		s = quote.Cut(string(op.Verb), 12)
		s += "(" + quote.Cut(op.Value, max(most-len(s)-2, 3)) + ")"
	}

	switch op.Outcome {
	case history.OK:
	case history.Unknown:
		s += " ?"
	default:
		s += " " + quote.Cut(string(op.Outcome), 12)
	}
	return s
}

// found formats what a read returned.
func found(op history.Operation, most int) string {
	most = max(most, 6)
	switch {
	case !op.Found:
		return "nothing"
	case op.Kind == history.Counter:
		return strconv.FormatInt(op.Number, 10)
	case op.Kind == history.Set && len(op.Members) > 4:
		return fmt.Sprintf("{%d members}", len(op.Members))
	case op.Kind == history.Set:
		return "{" + quote.Cut(strings.Join(op.Members, ", "), most-2) + "}"
	}
	return quote.Cut(op.Got, most)
}

// describeAnswer describes the response, and the node that sent it.
func describeAnswer(op history.Operation) string {
	var parts []string
	if op.Status != 0 {
		parts = append(parts, strconv.Itoa(op.Status))
	}
	if op.Node != "" {
		parts = append(parts, "by "+quote.Cut(op.Node, 24))
	}
	if op.Tries > 1 {
		parts = append(parts, fmt.Sprintf("after %d tries", op.Tries))
	}
	s := strings.Join(parts, " ")
	if op.Error == "" {
		return s
	}
	if s != "" {
		s += ": "
	}
	return s + quote.Cut(op.Error, 160)
}
