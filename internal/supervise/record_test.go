package supervise

import (
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

const oneShop = "apps: {shop: {command: [sleep, inf]}}\nredis: {enabled: false}\nbalancers: 1\nroutes: [{app: shop}]\n"

// runningAs returns a supervisor of a stack of which no node runs.
func runningAs(t *testing.T, text string) (*Supervisor, layout) {
	t.Helper()
	s, _ := oneNode(t, "true")
	l := fromText(t, s, text)
	s.nodes = map[string]*node{}
	s.cfg.Environ = os.Environ()
	s.install(l)
	s.statusBoard = newStatusBoard(l.plan)
	s.generation = 1
	return s, l
}

func TestAChangeThatHasEndedDoesNotBeginAgain(t *testing.T) {
	s, _ := runningAs(t, oneShop)
	began := time.Now()
	r := changeRecord{ID: 3, Kind: "apply", Began: began}
	if err := s.dir.writeChange(r); err != nil {
		t.Fatal(err)
	}
	ended := r
	ended.Result = &Result{ID: 3}
	if err := s.dir.archive(ended); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		is    changeRecord
		there bool
	}{
		"the same, which could not be removed": {r, false},
		"the next one":                         {changeRecord{ID: 4, Began: began}, true},
		"one of another stack in its place":    {changeRecord{ID: 3, Began: began.Add(time.Hour)}, true},
	} {
		if err := s.dir.writeChange(c.is); err != nil {
			t.Fatal(err)
		}
		if _, there, err := s.dir.readChange(); there != c.there || err != nil {
			t.Errorf("%s: there is a change: %t, %v", what, there, err)
		}
		if is := UnfinishedChange(s.dir.root) != nil; is != c.there {
			t.Errorf("%s: one has not ended: %t", what, is)
		}
	}
}

// If undoing fails, the rollout still waits; otherwise the next --undo would go one version too
// far.
func TestARolloutWaitsUntilItIsTakenBack(t *testing.T) {
	s, l := runningAs(t, oneShop)
	held := changeRecord{ID: 5, Kind: "rollout", Began: time.Now(), App: "shop", Only: 1, Held: true, Stack: string(l.file.Show()), BaseDir: "/b"}
	if err := s.dir.writeChange(held); err != nil {
		t.Fatal(err)
	}
	undo := Request{Kind: "rollout", Rollout: &Rollout{App: "shop", Undo: true}, Generation: 99}
	if _, err := s.beginChange(t.Context(), undo, true); err == nil {
		t.Fatal("a request that was made for another generation has begun")
	}
	if now := s.heldOnDisk(); now == nil || now.ID != 5 {
		t.Fatalf("after an --undo that was refused, %+v waits", now)
	}

	undo.Generation = 0
	if _, err := s.beginChange(t.Context(), undo, true); err != nil {
		t.Fatal(err)
	}
	if now := s.heldOnDisk(); now != nil {
		t.Errorf("%+v waits", now)
	}
	if r, there, err := s.dir.readChange(); !there || err != nil || r.ID != 6 {
		t.Errorf("the change is %+v, %v", r, err)
	}
	if all, err := EndedChanges(s.dir.root); err != nil || len(all) != 1 || all[0].ID != 5 || !strings.Contains(all[0].Why, "taken back") {
		t.Errorf("the changes that have ended: %+v, %v", all, err)
	}
}

// A full disk must not make the next supervisor go on with a rollout that was to wait.
func TestARolloutThatCannotBeWrittenDownDoesNotWait(t *testing.T) {
	s, l := runningAs(t, oneShop)
	c := &changeRun{sup: s, record: changeRecord{ID: 5, App: "shop", Only: 1}, final: l}
	if err := os.Mkdir(s.dir.path(changeFile), 0o700); err != nil { // no file can be put there
		t.Fatal(err)
	}
	if err := c.hold(); err == nil || c.record.Held {
		t.Errorf("it waits: %t, %v", c.record.Held, err)
	}
}

func TestADrainThatFailedDoesNotComeIntoForceLater(t *testing.T) {
	s, l := runningAs(t, oneShop)
	final := l
	final.overrides = stack.Overrides{Drained: map[string]bool{"shop-1": true}}
	final, err := s.planned(final, final.file)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing looks after the balancer, so it cannot read its configuration.
	c := &changeRun{sup: s, record: changeRecord{ID: 2, Kind: "drain"}, final: final}
	if r := c.run(t.Context()); r.Done || !strings.Contains(r.Why, "reload balancer-1") {
		t.Fatalf("%+v", r)
	}
	r, _, known, err := s.dir.readRunning()
	if err != nil || !known || len(r.Overrides.Drained) > 0 || s.drained("shop-1") {
		t.Errorf("out of rotation are %v, and now %t (%t, %v)", r.Overrides.Drained, s.drained("shop-1"), known, err)
	}
}
