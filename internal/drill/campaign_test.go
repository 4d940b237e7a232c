package drill

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/history"
)

func TestACampaignTellsWhoseEntryWasCutOff(t *testing.T) {
	one := func(name string, pause, elsewhere time.Duration, entries ...string) (history.History, history.Verdict) {
		return history.History{Faults: []history.Fault{{Name: name, Entries: entries, Promise: history.Promise{Pause: 8 * time.Second}}}},
			history.Verdict{Result: history.Holds, Faults: []history.FaultAvailability{{Name: name, Pause: pause, Elsewhere: elsewhere}}}
	}
	c := NewCampaign()
	c.Add(one("kill-web", time.Second, time.Second))
	var text strings.Builder
	if err := c.Text(&text); err != nil || strings.Contains(text.String(), "cut off") {
		t.Errorf("no entry was cut off (%v):\n%s", err, text.String())
	}
	for _, pause := range []time.Duration{6, 7, 5} {
		h, v := one("cut-host", pause*time.Second, pause*300*time.Millisecond, "http://10.0.0.1")
		c.Add(h, v)
		if line := c.Line(h, v); !strings.Contains(line, ", clients whose entry was not cut off "+round(pause*300*time.Millisecond).String()) {
			t.Errorf("the line is %q", line)
		}
	}
	if strings.Contains(text.String(), "URLs") {
		t.Errorf("consistency was judged:\n%s", text.String())
	}
	ofURLs := NewCampaign()
	ofURLs.Add(history.History{URLs: []string{"GET /"}}, history.Verdict{Result: history.Holds})
	text.Reset()
	if err := ofURLs.Text(&text); err != nil || !strings.Contains(text.String(), "1 drills of URLs: availability and latency alone") {
		t.Errorf("of URLs (%v):\n%s", err, text.String())
	}
	rows := c.Summary()
	if r := rows[0]; r.Fault != "cut-host" || r.Median != 6*time.Second || r.Worst != 7*time.Second ||
		r.MedianElsewhere != 1800*time.Millisecond || r.WorstElsewhere != 2100*time.Millisecond {
		t.Errorf("%+v", r)
	}
	if r := rows[1]; r.Worst != time.Second || r.WorstElsewhere != time.Second {
		t.Errorf("where none was cut off: %+v", r)
	}
	text.Reset()
	if err := c.Text(&text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	if !strings.HasSuffix(strings.TrimRight(lines[2], " "), "entry not cut off: median  worst") || strings.Join(strings.Fields(lines[3])[8:], " ") != "6s 7s 7s 8s 1.8s 2.1s" {
		t.Errorf("the table is\n%s", text.String())
	}
}

// A client whose own entry is well does not have to wait until the cut ends.
func TestEveryCutPromisesSomethingToThoseElsewhere(t *testing.T) {
	for _, f := range faults {
		if cut := f.promise.Failed == history.CutOff; cut != (f.promise.PauseElsewhere > 0) || f.promise.PauseElsewhere > f.promise.Pause {
			t.Errorf("%s promises %+v", f.name, f.promise)
		}
	}
}
