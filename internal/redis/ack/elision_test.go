package ack

import (
	"testing"
	"time"
)

func TestWhenAReadNeedsNoConfirmation(t *testing.T) {
	const never = -1 // the others are not to be asked
	master := func(offset int64) Role { return Role{Master: true, Offset: offset} }
	healthy := WaitElision{eligible: true, covered: 100, probes: 1}
	for name, c := range map[string]struct {
		before   WaitElision
		role     Role
		replicas int
		answer   int64 // to the question
		want     bool
		after    WaitElision
	}{
		"the others had it":                  {healthy, master(100), 2, never, true, WaitElision{eligible: true, covered: 100, probes: 2}},
		"the others have it now":             {healthy, master(101), 2, 101, true, WaitElision{eligible: true, covered: 101, others: 2}},
		"the others have it by far":          {healthy, master(101), 2, 500, true, WaitElision{eligible: true, covered: 500, others: 2}},
		"one is behind":                      {healthy, master(102), 2, 101, false, WaitElision{covered: 101, others: 2}},
		"one does not follow":                {healthy, master(102), 2, 0, false, WaitElision{others: 2}},
		"they were asked often enough":       {WaitElision{eligible: true, covered: 100}, master(101), 2, never, false, WaitElision{covered: 100}},
		"they are not asked ever more often": {WaitElision{eligible: true, covered: 100, probes: maxProbes}, master(9), 2, never, true, WaitElision{eligible: true, covered: 100, probes: maxProbes}},
		"the master has lost one":            {healthy, master(100), 1, never, false, WaitElision{covered: 100, probes: 1}},
		"it is a master no more":             {healthy, Role{Offset: 100}, 0, never, false, WaitElision{covered: 100, probes: 1}},
		"it did not answer":                  {healthy, Role{}, 0, never, false, WaitElision{covered: 100, probes: 1}},
		"something spoke against it":         {WaitElision{covered: 100, probes: 1}, master(100), 2, never, false, WaitElision{covered: 100, probes: 1}},
	} {
		q := c.before
		c.role.Online = c.replicas
		got, probe := q.Covered(c.role, 2)
		if probe != (c.answer != never) {
			t.Errorf("%s: the others are asked: %v", name, probe)
		}
		if probe {
			got = q.Probed(c.role, 2, c.answer)
		}
		if got != c.want || q != c.after {
			t.Errorf("%s: %v and %+v, want %v and %+v", name, got, q, c.want, c.after)
		}
	}
	q := WaitElision{covered: 100, Heard: time.Unix(1, 0)}
	if q.Proved(); q != (WaitElision{eligible: true, probes: 1, Heard: time.Unix(1, 0)}) {
		t.Errorf("after a proof: %+v", q)
	}
}

func TestWhichBatchesMayGoWithoutConfirmation(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*State, *WaitElision)
		needs  Needs
		empty  bool // the batch
		wait   int  // operations of earlier batches
		may    bool
	}{
		"nothing":                      {empty: true},
		"earlier ones wait":            {wait: 1},
		"reads of a healthy stack":     {needs: Needs{Read: true}, may: true},
		"a write":                      {needs: Needs{Write: true, Read: true}},
		"a write that does not wait":   {needs: Needs{Async: true, Read: true}},
		"an old proof":                 {change: func(s *State, _ *WaitElision) { s.Proven = s.Now.Add(-ProofEvery) }},
		"no proof":                     {change: func(s *State, _ *WaitElision) { s.Proven = time.Time{} }},
		"a quiet time":                 {change: func(s *State, e *WaitElision) { e.Heard = s.Now.Add(-MaxResponseGap) }},
		"something spoke against it":   {change: func(_ *State, e *WaitElision) { e.eligible = false }},
		"one is behind":                {change: func(s *State, _ *WaitElision) { s.InSync = 1 }},
		"one misses deadlines":         {change: func(s *State, _ *WaitElision) { s.Lagging = true }},
		"more have to confirm a write": {change: func(s *State, _ *WaitElision) { s.MinAcks = 3 }},
		"nobody could be promoted":     {change: func(s *State, _ *WaitElision) { s.Others, s.MinAcks = 0, 0 }},
	} {
		s := healthy(0)
		e := WaitElision{eligible: true, Heard: s.Now}
		if c.change != nil {
			c.change(&s, &e)
		}
		if c.needs == (Needs{}) {
			c.needs = Needs{Read: true}
		}
		batch := 1
		if c.empty {
			batch = 0
		}
		if may := e.MaySkipWait(s, c.needs, batch, c.wait); may != c.may {
			t.Errorf("%s: %v", name, may)
		}
	}
	now := time.Now()
	if Stalled(now.Add(-MaxResponseGap/2), now) || !Stalled(now.Add(-MaxResponseGap), now) {
		t.Error("a batch counts, or does not, by when the one before it was sent")
	}
}
