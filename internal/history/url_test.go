package history

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// asked returns a drill of URLs with one fault; all its requests are answered.
func asked(urls ...string) History {
	h := History{
		Rate: 100, Clients: 4, URLs: urls, LoadEnd: 4 * time.Second,
		Faults: []Fault{{Name: "kill-web", Promise: Promise{Failed: InFlight, Unknown: InFlight}, Began: time.Second,
			Moments: []time.Duration{time.Second}, Undone: 1100 * time.Millisecond, Healthy: 2 * time.Second, Evidence: "it died"}},
	}
	for n := range 400 {
		at := time.Duration(n) * 10 * time.Millisecond
		h.Operations = append(h.Operations, Operation{
			Client: n % 4, Kind: URL, Verb: Ask, Key: urls[n%len(urls)], Due: at, Start: at, End: at + 2*time.Millisecond, Outcome: OK, Status: 200,
		})
	}
	return h
}

func TestOfURLsAvailabilityAloneIsJudged(t *testing.T) {
	h := asked("GET /", "POST /orders")
	v := Judge(h)
	if v.Result != Holds || v.Consistency {
		t.Errorf("%s %v, %v; consistency was judged: %v", v.Result, v.Why, v.Warnings, v.Consistency)
	}
	if v.Checked.Acknowledged+v.Checked.Registers+v.Checked.ReadBack > 0 {
		t.Errorf("checked is %+v", v.Checked)
	}

	late := asked("GET /", "POST /orders")
	late.Operations[150].Outcome = Failed // long after the blow
	if v := Judge(late); v.Result != Missed {
		t.Errorf("a request that failed: %s %v", v.Result, v.Why)
	}
	at := asked("GET /", "POST /orders")
	at.Operations[99].End = 1010 * time.Millisecond
	at.Operations[99].Outcome = Unknown
	if v := Judge(at); v.Result != Holds {
		t.Errorf("one that was under way at the blow: %s %v", v.Result, v.Why)
	}
	never := asked("GET /", "POST /orders")
	for i := range never.Operations {
		if never.Operations[i].Key == "GET /" {
			never.Operations[i].Key = "GET /elsewhere"
		}
	}
	if v := Judge(never); v.Result != Inconclusive || !strings.Contains(fmt.Sprint(v.Why), "GET / was never answered") {
		t.Errorf("one that was never answered: %s %v", v.Result, v.Why)
	}
}

func TestAHistoryOfURLsIsReadAgain(t *testing.T) {
	h := asked("GET /")
	var text strings.Builder
	if err := Encode(&text, h); err != nil {
		t.Fatal(err)
	}
	again, err := Decode(strings.NewReader(text.String()))
	if err != nil || !again.OfURLs() || len(again.Operations) != len(h.Operations) {
		t.Fatalf("%v, %+v", err, again.URLs)
	}
	if v := Judge(again); v.Result != Holds {
		t.Errorf("%s %v", v.Result, v.Why)
	}
}
