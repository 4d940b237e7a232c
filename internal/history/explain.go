package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explain formats an anomaly's operations, one a line, sorted by Start: times in milliseconds since
// the history's beginning, client, request, answer, outcome, and the node that answered. The
// columns are padded with blanks.
func (h History) Explain(a Anomaly) []string {
	var indices []int
	for _, i := range a.Operations {
		if i >= 0 && i < len(h.Operations) {
			indices = append(indices, i)
		}
	}
	slices.SortStableFunc(indices, func(i, j int) int {
		return cmp.Compare(h.Operations[i].Start, h.Operations[j].Start)
	})
	var lines []string
	for _, i := range indices {
		op := h.Operations[i]
		line := fmt.Sprintf("%11s - %11s  client %-3d  %-58s  %-7s  %s",
			millis(op.Start), millis(op.End), op.Client, op.describeCall(), op.Outcome, op.describeNode())
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

// describeCall formats what an operation asked and what the answer was.
func (op Operation) describeCall() string {
	asked := fmt.Sprintf("%s %s", op.Verb, op.Key)
	switch op.Verb {
	case Write, Add:
		asked += " " + op.Value
	case CAS:
		asked += fmt.Sprintf(" %s to %s", orAbsent(op.Expect, op.Expect != ""), op.Value)
	case Read:
		if !op.master() {
			asked += " from " + op.From
		}
		if op.Final {
			asked = "final " + asked
		}
	}
	if told := op.describeAnswer(); told != "" {
		return asked + " -> " + told
	}
	return asked
}

// describeAnswer formats the answer of an operation that was answered.
func (op Operation) describeAnswer() string {
	switch {
	case op.Outcome != OK:
		return ""
	case op.Verb == CAS && op.Matched:
		return "done"
	case op.Verb == CAS:
		return "no match"
	case op.Verb == Increment, op.Verb == Read && op.Kind == Counter:
		return fmt.Sprint(op.Number)
	case op.Verb == Read && op.Kind == Set:
		return plural(len(op.Members), "member", "members")
	case op.Verb == Read:
		return orAbsent(op.Got, op.Found)
	}
	return ""
}

// describeNode returns the node and, if something went wrong, the status and the error.
func (op Operation) describeNode() string {
	parts := []string{op.Node}
	if op.Outcome != OK && op.Status != 0 {
		parts = append(parts, fmt.Sprint(op.Status))
	}
	if op.Error != "" {
		parts = append(parts, op.Error)
	}
	if op.Tries > 1 {
		parts = append(parts, fmt.Sprintf("(%d tries)", op.Tries))
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func orAbsent(text string, there bool) string {
	if !there {
		return "(absent)"
	}
	return text
}

// millis formats a time in milliseconds.
func millis(t time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(t)/float64(time.Millisecond))
}
