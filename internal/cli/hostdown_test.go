package cli

import (
	"errors"
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
		said []supervise.Status // a second apart; without a host: no answer
		want string
	}{
		"it begins late":              {append(repeated(running, 10), repeated(stopping, 60)...), ""},
		"it is up again":              {[]supervise.Status{running, stopping, running}, again},
		"its host is lost before":     {append(repeated(supervise.Status{}, 5), repeated(running, 20)...), again},
		"its host is lost meanwhile":  {append(repeated(stopping, 3), append(repeated(supervise.Status{}, 5), running)...), again},
		"nobody leads for a moment":   {append(repeated(supervise.Status{}, 10), repeated(stopping, 30)...), ""},
		"nobody leads any more":       {append(repeated(stopping, 3), repeated(supervise.Status{}, 20)...), unknown},
		"nobody has led since before": {repeated(supervise.Status{}, 20), unknown},
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

// repeated is what was said so often.
func repeated(st supervise.Status, times int) (all []supervise.Status) {
	for range times {
		all = append(all, st)
	}
	return all
}
