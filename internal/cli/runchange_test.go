package cli

import (
	"errors"
	"testing"

	"holdfast/internal/supervise"
)

func TestHowAChangeHasEndedIsReadFromTheStatusOfTheNextLeader(t *testing.T) {
	stopped := &supervise.Result{ID: 7, Why: "shop-1 does not start"}
	for _, c := range []struct {
		name string
		st   supervise.Status
		id   int
		done bool
		why  string
		err  error
	}{
		{"done", supervise.Status{Generation: 7}, 7, true, "", nil},
		{"done, and another one after it", supervise.Status{Generation: 9}, 7, true, "", nil},
		{"stopped", supervise.Status{Generation: 6, Stopped: stopped}, 7, false, "shop-1 does not start", nil},
		{"done, after one that was stopped", supervise.Status{Generation: 8, Stopped: stopped}, 8, true, "", nil},
		{"given up", supervise.Status{Generation: 6}, 7, false, "", errOtherLeader},
		{"it may not have begun", supervise.Status{Generation: 6}, 0, false, "", errOtherLeader},
	} {
		r, err := changeResult(c.st, c.id, "apply", supervise.Event{})
		if r.Done != c.done || r.Why != c.why || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
}
