package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/valyala/quicktemplate"

	"holdfast/internal/history"
	"holdfast/internal/quote"
)

var (
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageScript string
)

// The page's template is page.qtpl, which qtc makes Go code of (see package plan).
//
//go:generate go tool qtc -skipLineComments

// markup is a part of the page as it is. It is a type of its own so that only what this
// package draws or has in its files, and no text of a history, becomes one.
type markup string

// meaningful are the characters that mean something to HTML, as html/template writes them.
// Without them a text is nothing but a text, in an element and in a quoted attribute.
var (
	meaningful = []string{"\x00", "\uFFFD", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "<", "&lt;", ">", "&gt;"}
	drawable   = strings.NewReplacer(meaningful...)
	showable   = strings.NewReplacer(append(meaningful, "+", "&#43;")...) // + begins what is no text in UTF-7
)

// What the page's template calls by {%= text(s) %} and {%= raw(m) %}: qtc wants these
// names. A text of whatever origin is escaped; it may stand in elements other than
// <script> and <style>, and in quoted attributes other than URLs, styles and handlers.

func streamtext(w *quicktemplate.Writer, s string) { w.N().S(showable.Replace(s)) }

func streamraw(w *quicktemplate.Writer, m markup) { w.N().S(string(m)) }

// pageData is what the template shows.
type pageData struct {
	result
	Policy   string // the Content-Security-Policy
	Style    markup
	Script   markup
	Tone     string
	When     string
	Timeline timeline
	Table    series
	Diagrams []markup // of Proofs, one each
	CloseUps []markup // of Rows, one each, as many as there is room for
	Troubled []history.Operation
	// MoreTroubled counts the failed and unknown that are not in Troubled.
	MoreTroubled int
	Failed       int
	Unknown      int
}

// HTML writes one page that shows a drill's verdict, its timeline, what each
// fault cost, and the operations around every anomaly. The page needs nothing
// but itself: no network, no script to be read, and a policy that allows it
// neither. Its size is bounded, however many operations there are.
func HTML(w io.Writer, h history.History, v history.Verdict) error {
	r := prepare(h, v, shownAnomalies)
	s := gather(r.Operations, r.end())
	d := pageData{
		result: r, Policy: policy(pageStyle, pageScript), Style: markup(pageStyle), Script: markup(pageScript),
		Tone: "inconclusive", When: "at a time that was not recorded",
		Timeline: chart(r, s), Table: s.coarse(120),
	}
	if _, known := meanings[v.Result]; known {
		d.Tone = string(v.Result)
	}
	if !h.Began.IsZero() {
		d.When = h.Began.Format("2 January 2006, 15:04:05 MST")
	}
	for _, f := range r.Rows[:min(len(r.Rows), shownCloseUps)] {
		if picture := closeUp(f, r.Rows, r.Operations, s.End); picture != "" {
			d.CloseUps = append(d.CloseUps, picture)
		}
	}
	for _, p := range r.Proofs {
		d.Diagrams = append(d.Diagrams, spacetime(p, r.Rows))
	}
	d.Troubled, d.Failed, d.Unknown = troubled(r.Operations, shownTroubled)
	d.MoreTroubled = d.Failed + d.Unknown - len(d.Troubled)
	if _, err := io.WriteString(w, drillPage(d)); err != nil {
		return fmt.Errorf("writing the drill's page: %w", err)
	}
	return nil
}

// troubled are the first so many operations that failed or are unknown, in the
// order in which they were due, and how many there are.
func troubled(ops []history.Operation, most int) (first []history.Operation, failed, unknown int) {
	for _, op := range ops {
		switch op.Outcome {
		case history.OK:
			continue
		case history.Unknown:
			unknown++
		default:
			failed++
		}
		first = append(first, op)
	}
	slices.SortStableFunc(first, func(a, b history.Operation) int { return int((a.Due - b.Due) / time.Microsecond) })
	return first[:min(len(first), most)], failed, unknown
}

// policy allows a page these two inline texts and nothing else.
func policy(style, script string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(style) + "; script-src " + hash(script) +
		"; base-uri 'none'; form-action 'none'"
}

// gauge draws a pause against what was promised.
func gauge(r row) markup {
	const width, height = 92.0, 12.0
	if r.Promise.Pause <= 0 {
		return ""
	}
	whole := max(r.Cost.Pause, r.Promise.Pause).Seconds() * 1.08
	var c canvas
	c.open("gauge", r.N, width, height, "Pause against promise", "paused "+span(r.Cost.Pause)+" of "+promised(r.Promise)+" promised")
	c.rect("ground", 0, 2, width, 8, "")
	k := class("within")
	if r.Over() {
		k = "beyond"
	}
	c.rect(k, 0, 2, max(r.Cost.Pause.Seconds()/whole*width, 1.5), 8, "")
	at := r.Promise.Pause.Seconds() / whole * width
	c.rule("promise", at, 0, at, height, "")
	return c.close()
}

// TargetList is what was hit.
func (r row) TargetList() string { return strings.Join(r.Targets, ", ") }

// TableAt is when a row of the table begins.
func (d pageData) TableAt(i int) string {
	return fmt.Sprintf("%.1f", (time.Duration(i) * d.Table.Step).Seconds())
}

// shown cleans a text of an operation.
func shown[text ~string](s text) string { return quote.Cut(string(s), 80) }

// letter is the mark of a notice.
func letter(i int) string { return string(rune('a' + i%26)) }

// waited is how long an operation's client waited, in words.
func waited(op history.Operation) string { return span(max(op.End-op.Due, 0)) }

// MoreCloseUps says that there are more faults than are shown close up.
func (d pageData) MoreCloseUps() bool { return len(d.Rows) > shownCloseUps }
