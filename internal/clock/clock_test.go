package clock

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestASleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !Sleep(t.Context(), time.Hour) || time.Since(began) != time.Hour {
			t.Errorf("it slept %v instead of an hour", time.Since(began))
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if Sleep(ctx, time.Hour) || time.Since(began) != time.Minute {
			t.Errorf("it slept %v, and its context ended after a minute", time.Since(began))
		}
	})
}

func TestPollLooksAtOnceAndThenEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, looks := time.Now(), 0
		holds := func() bool { looks++; return looks == 4 }
		if !Poll(t.Context(), time.Second, holds) || time.Since(began) != 3*time.Second {
			t.Errorf("%d looks took %v", looks, time.Since(began))
		}

		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		looks = 0
		if Poll(ctx, time.Second, func() bool { looks++; return false }) || looks != 2 {
			t.Errorf("%d looks in a second and a half", looks)
		}
	})
}

func TestWithinLooksOnceMoreAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !Within(time.Second, 400*time.Millisecond, func() bool { return time.Since(began) > time.Second }) {
			t.Error("the condition held when the time was over, and nobody looked")
		}
		if Within(time.Second, 400*time.Millisecond, func() bool { return false }) {
			t.Error("a condition that never holds held")
		}
	})
}

func TestPausesDouble(t *testing.T) {
	for _, c := range []struct {
		name string
		b    Backoff
		want []time.Duration
	}{
		{"up to the most", Backoff{Min: 2, Max: 10}, []time.Duration{2, 4, 8, 10, 10}},
		{"at once", Backoff{Min: 2, Max: 10, AtOnce: true}, []time.Duration{0, 2, 4, 8, 10}},
		{"none", Backoff{}, []time.Duration{0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				var got []time.Duration
				for range c.want {
					got = append(got, c.b.Next())
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("the pauses are %v, want %v", got, c.want)
				}
				c.b.Reset()
			}
		})
	}
}
