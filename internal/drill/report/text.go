package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"holdfast/internal/history"
)

// The layout of the summary on a terminal.
const (
	textColumns    = 96
	textAnomalies  = 3
	textOperations = 10 // of one anomaly
	textSentences  = 12
)

// Terminal control (ECMA-48).
const (
	bold, dim, red, green, yellow, plain = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
)

// Text writes the summary of a drill for a terminal of 96 columns. If colour is set, it uses
// colours. If it is not, the output has no control character except line feeds, whatever the
// history contains.
func Text(w io.Writer, h history.History, v history.Verdict, colour bool) error {
	t := &textReport{result: prepare(h, v, textAnomalies), colour: colour}
	t.head()
	t.faults()
	t.list("why", t.Verdict.Why)
	t.list("worth knowing", t.remarks())
	t.anomalies()
	if t.Repeat != "" {
		t.printf("\nrepeat it: %s\n", t.Repeat)
	}
	if _, err := io.WriteString(w, t.b.String()); err != nil {
		return fmt.Errorf("writing the drill's summary: %w", err)
	}
	return nil
}

// textReport is a summary being written.
type textReport struct {
	result
	colour bool
	b      strings.Builder
}

func (t *textReport) printf(format string, args ...any) { fmt.Fprintf(&t.b, format, args...) }

// in returns a text in a colour.
func (t *textReport) in(code, s string) string {
	if !t.colour || code == "" {
		return s
	}
	return code + s + plain
}

// resultColour returns the colour of a result.
func resultColour(r history.Result) string {
	switch r {
	case history.Holds:
		return green
	case history.Broken:
		return red
	}
	return yellow
}

func (t *textReport) head() {
	what := ""
	if t.Stack != "" {
		what = "  drill of the stack " + shorten(t.Stack, 30)
	}
	if !t.Began.IsZero() {
		what += ", " + t.Began.Format("2006-01-02 15:04:05 MST")
	}
	if t.Interrupted {
		what += ", interrupted"
	}
	t.printf("%s%s\n", t.in(bold+resultColour(t.Verdict.Result), strings.ToUpper(t.Word)), what)
	t.wrapped("", t.Meaning())
	c, all := t.Verdict.Checked, t.Verdict.Whole
	t.printf("\n")
	if t.OfURLs() {
		t.wrapped("loaded   ", plural(c.Operations, "request", "requests")+" for "+strings.Join(t.URLs, ", "))
		t.load(all)
		return
	}
	of := ""
	if t.App != "" {
		of = " of " + t.App
	}
	t.wrapped("checked  ", fmt.Sprintf("%s on %s, %s and %s", plural(c.Operations, "operation", "operations"),
		plural(c.Registers, "register", "registers"), plural(c.Counters, "counter", "counters"), plural(c.Sets, "set", "sets"))+of)
	if c.Direct > 0 {
		t.wrapped("         ", plural(c.Direct, "operation", "operations")+" of these by clients that asked the web nodes directly; the rest of this report leaves them out")
	}
	t.wrapped("         ", fmt.Sprintf("%s, %s read back",
		plural(c.Acknowledged, "acknowledged write", "acknowledged writes"), plural(c.ReadBack, "key", "keys")))
	t.load(all)
}

// load writes the outcome of the load as a whole.
func (t *textReport) load(all history.Availability) {
	if all.Operations > 0 {
		t.wrapped("load     ", fmt.Sprintf("%s failed, %s unknown, %s held; latency p50 %s, p99 %s, longest %s",
			number(all.Failed), number(all.Unknown), number(all.Held), formatDuration(all.P50), formatDuration(all.P99), formatDuration(all.Max)))
	}
}

// cell is a text in the table, and its colour.
type cell struct{ text, colour string }

// faults writes a line for each fault.
func (t *textReport) faults() {
	if len(t.Rows) == 0 {
		t.printf("\nnothing was broken in this drill\n")
		return
	}
	lines := [][]cell{{{"", ""}, {"FAULT", dim}, {"PAUSE", dim}, {"PROMISED", dim}, {"RECOVERY", dim}, {"FAILED", dim}, {"UNKNOWN", dim}, {"HELD", dim}}}
	for _, f := range t.Rows {
		during := f.Cost.During
		line := []cell{
			{fmt.Sprint(f.N), dim}, {shorten(f.name(), 36), ""}, {formatDuration(f.Cost.Pause), ""}, {promised(f.Promise), ""}, {formatDuration(f.Cost.Recovery), ""},
			{number(during.Failed), ""}, {number(during.Unknown), ""}, {number(during.Held), ""},
		}
		if f.Over() {
			line[2].colour = yellow
		}
		if f.Cost.Recovery < 0 {
			line[4].colour = red
		}
		if during.Failed > 0 {
			line[5].colour = red
		}
		if during.Unknown > 0 {
			line[6].colour = yellow
		}
		lines = append(lines, line)
	}
	t.printf("\n")
	t.table(lines)
	for _, f := range t.Rows {
		if text := f.Elsewhere(); text != "" {
			t.wrapped("   ", fmt.Sprintf("fault %d: %s", f.N, text))
		}
	}
}

// table writes aligned lines: the second column to the left, all others to the right.
func (t *textReport) table(lines [][]cell) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, c := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, line := range lines {
		for i, c := range line {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			switch {
			case i == 0:
				t.printf("%s%s", fill, t.in(c.colour, c.text))
			case i == 1:
				t.printf("  %s%s", t.in(c.colour, c.text), fill)
			default:
				t.printf("  %s%s", fill, t.in(c.colour, c.text))
			}
		}
		t.printf("\n")
	}
}

// remarks returns what a reader should know: the judge's warnings, the longest pause, trouble with
// faults, and what else happened.
func (t *textReport) remarks() []string {
	var all []string
	all = append(all, t.Verdict.Warnings...)
	var worst *row
	for i := range t.Rows {
		if worst == nil || t.Rows[i].Cost.Pause > worst.Cost.Pause {
			worst = &t.Rows[i]
		}
	}
	if len(t.Rows) > 1 && worst.Cost.Pause > 0 {
		all = append(all, fmt.Sprintf("the longest pause: %s, fault %d (%s)", formatDuration(worst.Cost.Pause), worst.N, worst.name()))
	}
	for _, f := range t.Rows {
		if f.Trouble != "" {
			all = append(all, fmt.Sprintf("trouble with fault %d (%s): %s", f.N, f.name(), f.Trouble))
		}
	}
	for _, n := range t.Notices {
		all = append(all, strings.TrimSpace(fmt.Sprintf("at %s %s %s", formatTime(n.At), n.Node, n.Text)))
	}
	return all
}

func (t *textReport) list(title string, all []string) {
	if len(all) == 0 {
		return
	}
	t.printf("\n%s\n", t.in(bold, title))
	for i, s := range all {
		if i == textSentences {
			t.printf("  and %s more\n", number(len(all)-i))
			return
		}
		t.wrapped("  - ", s)
	}
}

func (t *textReport) anomalies() {
	for _, p := range t.Proofs {
		t.printf("\n%s\n", t.in(red, shorten(fmt.Sprintf("%d. %s: %s", p.N, p.What, p.Key), textColumns)))
		t.wrapped("   ", p.Text)
		lines := operationLines(p)
		for i, line := range lines {
			if i == textOperations {
				t.printf("   and %s more\n", plural(len(lines)-i+p.Left, "operation", "operations"))
				break
			}
			t.printf("   %s\n", shorten(line, textColumns-3))
		}
	}
	if t.Left > 0 {
		t.printf("\nand %s\n", plural(t.Left, "more anomaly", "more anomalies"))
	}
}

// operationLines returns an aligned line for each operation of a proof.
func operationLines(p proof) []string {
	var lines []string
	for _, op := range p.Around {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%7.3f to %7.3f s  client %-3d  %-26s  %s",
			op.Start.Seconds(), op.End.Seconds(), op.Client, describeOperation(op, 26), describeAnswer(op)), " "))
	}
	return lines
}

// wrapped writes a text in lines of at most textColumns. The first line begins with lead, the
// others are indented by its width.
func (t *textReport) wrapped(lead, s string) {
	column := utf8.RuneCountInString(lead)
	indent := strings.Repeat(" ", column)
	t.printf("%s", lead)
	first := true
	for _, word := range strings.Fields(s) {
		for {
			n := utf8.RuneCountInString(word)
			if !first && column+1+n > textColumns {
				t.printf("\n%s", indent)
				column, first = len(indent), true
			}
			if room := textColumns - column; first && n > room { // a word longer than a line
				runes := []rune(word)
				t.printf("%s\n%s", string(runes[:room]), indent)
				word = string(runes[room:])
				continue
			}
			if !first {
				t.printf(" ")
				column++
			}
			t.printf("%s", word)
			column, first = column+n, false
			break
		}
	}
	t.printf("\n")
}
