package supervise

import (
	"slices"
	"testing"
	"time"
)

func TestASentinelSpinsWhenItTakesTooMuchForLong(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes []time.Duration // processor time in each look's interval
		pids  []int           // of each look; nil: always the same
		want  bool
	}{
		{name: "at work", takes: slices.Repeat([]time.Duration{50 * time.Millisecond}, 20)},
		{name: "a failover", takes: append(slices.Repeat([]time.Duration{4 * time.Second}, 5), slices.Repeat([]time.Duration{time.Second}, 5)...)},
		{name: "for good", takes: slices.Repeat([]time.Duration{4 * time.Second}, 6), want: true},
		{name: "long before, and now", takes: append(slices.Repeat([]time.Duration{0}, 3), slices.Repeat([]time.Duration{4 * time.Second}, 6)...), want: true},
		{name: "not all of the time", takes: append(slices.Repeat([]time.Duration{4 * time.Second}, 5), 0, 4*time.Second)},
		{name: "started anew meanwhile", takes: slices.Repeat([]time.Duration{4 * time.Second}, 7), pids: []int{1, 1, 1, 1, 2, 2, 2}},
	} {
		now := time.Now()
		s, cpu, looks := spinner{pid: 1, at: now}, time.Duration(0), 0
		for i, took := range c.takes {
			pid := 1
			if c.pids != nil {
				pid = c.pids[i]
			}
			cpu += took
			now = now.Add(spinEvery)
			looks = s.look(pid, cpu, now)
		}
		if got := looks >= spinLooks; got != c.want {
			t.Errorf("%s: it spins: %v", c.name, got)
		}
	}
}
