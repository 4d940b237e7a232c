package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"holdfast/internal/history"
)

// summary is a drill in JSON. Durations are in milliseconds, and times are in milliseconds since
// the drill's beginning. null means never.
type summary struct {
	ID       string    `json:"id"`
	Stack    string    `json:"stack"`
	Holdfast string    `json:"holdfast"`
	Began    time.Time `json:"began"`
	// App is the application under load; without it, URLs are what was loaded. Consistency is false
	// if only availability and latency were judged.
	App         string         `json:"app,omitempty"`
	URLs        []string       `json:"urls,omitempty"`
	Consistency bool           `json:"consistency"`
	Repeat      string         `json:"repeat"`
	Seed        int64          `json:"seed"`
	Rate        int            `json:"rate"`
	Clients     int            `json:"clients"`
	LoadMS      *float64       `json:"load_ms"`
	SickBefore  string         `json:"sick_before,omitempty"`
	SickAfter   string         `json:"sick_after,omitempty"`
	Interrupted bool           `json:"interrupted,omitempty"`
	Result      history.Result `json:"result"`
	// Why, Warnings and Anomalies are those of the verdict, without omissions. An anomaly's
	// operations are indices into the raw history.
	Why       []string          `json:"why"`
	Warnings  []string          `json:"warnings"`
	Anomalies []history.Anomaly `json:"anomalies"`
	Checked   history.Checked   `json:"checked"`
	Whole     summaryLoad       `json:"whole"`
	Faults    []summaryFault    `json:"faults"`
	Notices   []summaryNotice   `json:"notices"`
}

type summaryLoad struct {
	FromMS     *float64 `json:"from_ms"`
	ToMS       *float64 `json:"to_ms"`
	Operations int      `json:"operations"`
	Failed     int      `json:"failed"`
	Unknown    int      `json:"unknown"`
	Held       int      `json:"held"`
	P50MS      *float64 `json:"p50_ms"`
	P99MS      *float64 `json:"p99_ms"`
	MaxMS      *float64 `json:"max_ms"`
}

type summaryFault struct {
	Name     string   `json:"name"`
	Targets  []string `json:"targets"`
	Evidence string   `json:"evidence"`
	Trouble  string   `json:"trouble,omitempty"`
	// Harm is what the fault did to others against its promise. Binding means that its promise
	// rules such harm out, and that a longer pause than promised counts as missed.
	Harm    []string `json:"harm,omitempty"`
	Binding bool     `json:"binding,omitempty"`
	// Promised is null if no pause is promised.
	Promised *float64 `json:"promised_pause_ms"`
	// Elsewhere and PromisedElsewhere are about clients whose entry was not cut off; PauseMS is
	// about all clients.
	Elsewhere         *float64 `json:"pause_elsewhere_ms"`
	PromisedElsewhere *float64 `json:"promised_pause_elsewhere_ms"`

	AllowedFailed  history.Allowance `json:"allowed_failed"`
	AllowedUnknown history.Allowance `json:"allowed_unknown"`
	BeganMS        *float64          `json:"began_ms"`
	MomentsMS      []*float64        `json:"moments_ms"`
	UndoneMS       *float64          `json:"undone_ms"`
	HealthyMS      *float64          `json:"healthy_ms"`
	PauseMS        *float64          `json:"pause_ms"`
	SilenceMS      *float64          `json:"silence_ms"`
	RecoveryMS     *float64          `json:"recovery_ms"`
	Before         summaryLoad       `json:"before"`
	During         summaryLoad       `json:"during"`
	After          summaryLoad       `json:"after"`
}

type summaryNotice struct {
	AtMS *float64 `json:"at_ms"`
	Node string   `json:"node,omitempty"`
	Text string   `json:"text"`
}

// JSON writes the summary of a drill for machines: an object with what was run, what was broken and
// what it cost, and the verdict. The operations themselves are only in the raw history.
func JSON(w io.Writer, h history.History, v history.Verdict) error {
	s := summary{
		ID: h.ID, Stack: h.Stack, Holdfast: h.Holdfast, Began: h.Began, Repeat: h.Repeat,
		App: h.App, URLs: h.URLs, Consistency: !h.OfURLs(),
		Seed: h.Seed, Rate: h.Rate, Clients: h.Clients, LoadMS: milliseconds(h.LoadEnd),
		SickBefore: h.SickBefore, SickAfter: h.SickAfter, Interrupted: h.Interrupted,
		Result: v.Result, Why: some(v.Why), Warnings: some(v.Warnings), Anomalies: some(v.Anomalies), Checked: v.Checked,
		Whole: loadOf(v.Whole), Faults: []summaryFault{}, Notices: []summaryNotice{},
	}

	for i, f := range h.Faults {
		cost := history.FaultAvailability{Recovery: -1}
		if i < len(v.Faults) {
			cost = v.Faults[i]
		}
		one := summaryFault{
			Name: f.Name, Targets: some(f.Targets), Evidence: f.Evidence, Trouble: f.Trouble,
			Harm: f.Harm, Binding: f.Promise.Binding,
			AllowedFailed: f.Promise.Failed, AllowedUnknown: f.Promise.Unknown,
			BeganMS: milliseconds(f.Began), MomentsMS: []*float64{}, UndoneMS: milliseconds(f.Undone), HealthyMS: milliseconds(f.Healthy),
			PauseMS: milliseconds(cost.Pause), Elsewhere: milliseconds(cost.Elsewhere), SilenceMS: milliseconds(cost.Silence), RecoveryMS: milliseconds(cost.Recovery),
			Before: loadOf(cost.Before), During: loadOf(cost.During), After: loadOf(cost.After),
		}
		if f.Promise.Pause > 0 {
			one.Promised = milliseconds(f.Promise.Pause)
		}
		if f.Promise.PauseElsewhere > 0 {
			one.PromisedElsewhere = milliseconds(f.Promise.PauseElsewhere)
		}
		for _, m := range f.Moments {
			one.MomentsMS = append(one.MomentsMS, milliseconds(m))
		}
		s.Faults = append(s.Faults, one)
	}

	for _, n := range h.Notices {
		s.Notices = append(s.Notices, summaryNotice{AtMS: milliseconds(n.At), Node: n.Node, Text: n.Text})
	}

	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("writing the drill's summary: %w", err)
	}
	return nil
}

func loadOf(a history.Availability) summaryLoad {
	return summaryLoad{
		FromMS: milliseconds(a.From), ToMS: milliseconds(a.To), Operations: a.Operations, Failed: a.Failed, Unknown: a.Unknown,
		Held: a.Held, P50MS: milliseconds(a.P50), P99MS: milliseconds(a.P99), MaxMS: milliseconds(a.Max),
	}
}

// milliseconds returns nil for never (a negative d), else the milliseconds to three decimals.
func milliseconds(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	ms := math.Round(d.Seconds()*1e6) / 1e3
	return &ms
}

// some returns an empty slice for nil, so that the JSON is not null.
func some[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}
