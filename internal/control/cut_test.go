package control

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/isolate"
)

func TestACutBeginsAfterItsAnswerAndOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began, ended atomic.Int32
		var fails atomic.Bool
		no := errors.New("no")
		c := cuts{
			ready: isolateCheck,
			begin: func(isolate.Cut, context.Context) error {
				began.Add(1)
				if fails.Load() {
					return no
				}
				return nil
			},
			end:     func(context.Context) error { ended.Add(1); return nil },
			dropped: func(context.Context) (map[string]int, error) { return map[string]int{"to the others": 3}, nil },
		}
		ctx := t.Context()
		cut := isolate.Cut{Ports: []uint16{80}, Lasts: 6 * time.Second}
		want := func(what string, wantBegan, wantEnded int32) {
			t.Helper()
			if synctest.Wait(); began.Load() != wantBegan || ended.Load() != wantEnded {
				t.Errorf("%s: began %d times, ended %d times, want %d and %d", what, began.Load(), ended.Load(), wantBegan, wantEnded)
			}
		}

		if err := c.plan(ctx, isolate.Cut{Lasts: time.Second}); err == nil {
			t.Error("a cut of nothing is taken")
		}
		if err := c.over(ctx); err != nil {
			t.Error(err)
		}
		want("none", 0, 0)

		if err := c.plan(ctx, cut); err != nil {
			t.Fatal(err)
		}
		want("answered", 0, 0)
		time.Sleep(CutDelay)
		want("a moment later", 1, 0)
		if err := c.plan(ctx, cut); err == nil || !strings.Contains(err.Error(), "cut off already, for 6s more") {
			t.Errorf("a second one: %v", err)
		}
		time.Sleep(cut.Lasts)
		if n, err := c.counts(ctx); err != nil || n["to the others"] != 3 {
			t.Error(n, err)
		}
		if err := errors.Join(c.over(ctx), c.over(ctx)); err != nil {
			t.Error(err)
		}
		want("ended", 1, 1)

		// One that is called off before it begins.
		if err := errors.Join(c.plan(ctx, cut), c.over(ctx)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("called off", 1, 2)

		// One that cannot begin says so, and one that nobody ends is forgotten.
		fails.Store(true)
		if err := c.plan(ctx, cut); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("failed", 2, 2)
		if _, err := c.counts(ctx); !errors.Is(err, no) {
			t.Error(err)
		}
		time.Sleep(cut.Lasts + forgetCut)
		want("forgotten", 2, 3)
	})
}

func isolateCheck(c isolate.Cut, _ context.Context) error { return c.Check() }
