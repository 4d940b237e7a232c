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

// The page's template is page.qtpl, from which qtc generates Go code (see package plan).
//
//go:generate go tool qtc -skipLineComments

// markup is a part of the page that is not escaped. It is a type of its own, so that only what this
// package draws or embeds becomes markup, and no text of a history.
type markup string

// meaningful are the characters with a meaning in HTML, and what html/template replaces them by. A
// text without them is plain text, in elements and in quoted attributes.
var (
	meaningful = []string{"\x00", "\uFFFD", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "<", "&lt;", ">", "&gt;"}
	drawable   = strings.NewReplacer(meaningful...)
	showable   = strings.NewReplacer(append(meaningful, "+", "&#43;")...) // a plus sign begins encoded text in UTF-7
)

// The functions that {%= text(s) %} and {%= raw(m) %} call in the template; qtc prescribes their
// names. text escapes any text. The result may stand in elements except <script> and <style>, and
// in quoted attributes except URLs, styles and event handlers.

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
	Diagrams []markup // one for each of Proofs
	CloseUps []markup // one for each of Rows, up to shownCloseUps
	Troubled []history.Operation
	// MoreTroubled is the number of failed and unknown operations that are not in Troubled.
	MoreTroubled int
	Failed       int
	Unknown      int
}

// HTML writes one page with a drill's verdict, its timeline, what each fault cost, and the
// operations around every anomaly. The page loads nothing, can be read without its script, and has
// a policy that forbids both network access and other scripts. Its size is limited, however many
// operations there are.
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
	d.Troubled, d.Failed, d.Unknown = firstFailures(r.Operations, shownTroubled)
	d.MoreTroubled = d.Failed + d.Unknown - len(d.Troubled)
	if _, err := io.WriteString(w, drillPage(d)); err != nil {
		return fmt.Errorf("writing the drill's page: %w", err)
	}
	return nil
}

// firstFailures returns the first operations that failed or are unknown, in the order in which they
// were due, and how many there are in all.
func firstFailures(ops []history.Operation, most int) (first []history.Operation, failed, unknown int) {
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

// policy returns a Content-Security-Policy that allows these two inline texts and nothing else.
func policy(style, script string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(style) + "; script-src " + hash(script) +
		"; base-uri 'none'; form-action 'none'"
}

// gauge draws a fault's pause in relation to the promised one.
func gauge(r row) markup {
	const width, height = 92.0, 12.0
	if r.Promise.Pause <= 0 {
		return ""
	}
	whole := max(r.Cost.Pause, r.Promise.Pause).Seconds() * 1.08
	var c canvas
	c.open("gauge", r.N, width, height, "Pause against promise", "paused "+formatDuration(r.Cost.Pause)+" of "+promised(r.Promise)+" promised")
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

// TargetList returns the fault's targets in one text.
func (r row) TargetList() string { return strings.Join(r.Targets, ", ") }

// TableAt returns the beginning of a row of the table, in seconds.
func (d pageData) TableAt(i int) string {
	return fmt.Sprintf("%.1f", (time.Duration(i) * d.Table.Step).Seconds())
}

// shown cleans a text of an operation.
func shown[text ~string](s text) string { return quote.Cut(string(s), 80) }

// noticeMark returns the mark of a notice.
func noticeMark(i int) string { return string(rune('a' + i%26)) }

// waited formats how long an operation's client waited.
func waited(op history.Operation) string { return formatDuration(max(op.End-op.Due, 0)) }

// MoreCloseUps reports whether there are more faults than close-ups.
func (d pageData) MoreCloseUps() bool { return len(d.Rows) > shownCloseUps }
