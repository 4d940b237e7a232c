package drill

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"holdfast/internal/history"
)

// Campaign gathers the verdicts of many drills. It is not safe for concurrent use.
type Campaign struct {
	drills int
	ofURLs bool // the drills judged no consistency
	faults map[string]*faultStats
}

// faultStats is what was seen of one fault in all drills.
type faultStats struct {
	pauses    []time.Duration
	elsewhere []time.Duration // of clients whose entry was not cut off
	cutOff    bool            // some clients' entry was cut off
	results   map[history.Result]int
	failed    int
	unknown   int
	anomalies int
	promise   time.Duration
}

// NewCampaign returns a campaign without drills.
func NewCampaign() *Campaign { return &Campaign{faults: map[string]*faultStats{}} }

// Drills returns the number of drills.
func (c *Campaign) Drills() int { return c.drills }

// Add adds one drill.
func (c *Campaign) Add(h history.History, v history.Verdict) {
	c.drills++
	c.ofURLs = c.ofURLs || h.OfURLs()
	for i, f := range h.Faults {
		t := c.faults[f.Name]
		if t == nil {
			t = &faultStats{results: map[history.Result]int{}}
			c.faults[f.Name] = t
		}
		t.results[v.Result]++
		t.promise = f.Promise.Pause
		t.anomalies += len(v.Anomalies)
		if i < len(v.Faults) {
			t.pauses = append(t.pauses, v.Faults[i].Pause)
			t.elsewhere = append(t.elsewhere, v.Faults[i].Elsewhere)
			t.cutOff = t.cutOff || len(f.Entries) > 0
			t.failed += v.Faults[i].During.Failed
			t.unknown += v.Faults[i].During.Unknown
		}
	}
}

// Line describes one drill in a line.
func (c *Campaign) Line(h history.History, v history.Verdict) string {
	line := fmt.Sprintf("%4d  %-12s", c.drills, v.Result)
	for i, f := range h.Faults {
		if i < len(v.Faults) {
			a := v.Faults[i]
			line += fmt.Sprintf("  %s: pause %s, failed %d, unknown %d", f.Name, round(a.Pause), a.During.Failed, a.During.Unknown)
			if len(f.Entries) > 0 {
				line += fmt.Sprintf(", clients whose entry was not cut off %s", round(a.Elsewhere))
			}
		}
	}
	if len(v.Why) > 0 {
		line += "  " + v.Why[0]
	}
	return line
}

// Row is what a campaign found about one fault.
type Row struct {
	Fault        string        `json:"fault"`
	Drills       int           `json:"drills"`
	Holds        int           `json:"holds"`
	Missed       int           `json:"missed"`
	Inconclusive int           `json:"inconclusive"`
	Broken       int           `json:"broken"`
	Failed       int           `json:"failed"`
	Unknown      int           `json:"unknown"`
	Median       time.Duration `json:"median"`
	P90          time.Duration `json:"p90"`
	Worst        time.Duration `json:"worst"`
	Promise      time.Duration `json:"promise"` // the longest pause promised
	// The same for the clients whose entry was not cut off. If no entry was, they equal Median and
	// Worst.
	MedianElsewhere time.Duration `json:"median_elsewhere"`
	WorstElsewhere  time.Duration `json:"worst_elsewhere"`

	cutOff bool // an entry was cut off in at least one drill
}

// Summary returns a row for each fault, sorted by name.
func (c *Campaign) Summary() []Row {
	var rows []Row
	for name, t := range c.faults {
		d, elsewhere := history.Distribute(t.pauses), history.Distribute(t.elsewhere)
		rows = append(rows, Row{
			Fault: name, Drills: len(t.pauses), Holds: t.results[history.Holds], Missed: t.results[history.Missed],
			Inconclusive: t.results[history.Inconclusive], Broken: t.results[history.Broken],
			Failed: t.failed, Unknown: t.unknown, Median: d.Median, P90: d.P90, Worst: d.Max, Promise: t.promise,
			MedianElsewhere: elsewhere.Median, WorstElsewhere: elsewhere.Max, cutOff: t.cutOff,
		})
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Fault, b.Fault) })
	return rows
}

// Text prints the summary as a table. If any entry was cut off, the table also shows how long the
// other clients waited.
func (c *Campaign) Text(w io.Writer) error {
	fmt.Fprintf(w, "%d drills", c.drills)
	if c.ofURLs {
		fmt.Fprint(w, " of URLs: availability and latency alone, and no consistency")
	}
	fmt.Fprint(w, "\n\n")
	rows := c.Summary()
	cutOff := slices.ContainsFunc(rows, func(r Row) bool { return r.cutOff })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "fault\tdrills\tholds\tmissed\tinconclusive\tbroken\tfailed\tunknown\tpause: median\tp90\tworst\tpromised\t"
	if cutOff {
		head += "entry not cut off: median\tworst\t"
	}
	fmt.Fprintln(t, head)
	for _, r := range rows {
		promised := "–"
		if r.Promise > 0 {
			promised = round(r.Promise).String()
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t", r.Fault, r.Drills, r.Holds, r.Missed, r.Inconclusive, r.Broken,
			r.Failed, r.Unknown, round(r.Median), round(r.P90), round(r.Worst), promised)
		if cutOff {
			fmt.Fprintf(t, "%s\t%s\t", round(r.MedianElsewhere), round(r.WorstElsewhere))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func round(d time.Duration) time.Duration {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
