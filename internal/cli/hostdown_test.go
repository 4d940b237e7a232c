package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/supervise"
)

func TestWhoTakesAStackDownIsToldWhenItIsUpAgain(t *testing.T) {
	running, stopping := supervise.Status{Host: "two", Phase: supervise.PhaseRunning}, supervise.Status{Host: "two", Phase: supervise.PhaseStopping}
	silent := errors.New("no answer")
	const again, unknown = "started again what was stopped", "nobody leads it"
	for name, c := range map[string]struct {
		said []supervise.Status // one a second; without a host: no answer
		want string
	}{
		"it begins late":              {append(slices.Repeat([]supervise.Status{running}, 10), slices.Repeat([]supervise.Status{stopping}, 60)...), ""},
		"it is up again":              {[]supervise.Status{running, stopping, running}, again},
		"its host is lost before":     {append(slices.Repeat([]supervise.Status{supervise.Status{}}, 5), slices.Repeat([]supervise.Status{running}, 20)...), again},
		"its host is lost meanwhile":  {append(slices.Repeat([]supervise.Status{stopping}, 3), append(slices.Repeat([]supervise.Status{supervise.Status{}}, 5), running)...), again},
		"nobody leads for a moment":   {append(slices.Repeat([]supervise.Status{supervise.Status{}}, 10), slices.Repeat([]supervise.Status{stopping}, 30)...), ""},
		"nobody leads any more":       {append(slices.Repeat([]supervise.Status{stopping}, 3), slices.Repeat([]supervise.Status{supervise.Status{}}, 20)...), unknown},
		"nobody has led since before": {slices.Repeat([]supervise.Status{supervise.Status{}}, 20), unknown},
	} {
		began := time.Now()
		watch := downWatch{began: began, led: began}
		var err error
		for i, st := range c.said {
			var failed error
			if st.Host == "" {
				failed = silent
			}
			if err = watch.step(began.Add(time.Duration(i)*time.Second), st, failed); err != nil {
				break
			}
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
