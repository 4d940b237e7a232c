package supervise

import (
	"errors"
	"testing"
)

func TestAChangeOfTheMasterIsAFailoverUnlessSomebodyAskedForIt(t *testing.T) {
	t.Parallel()
	s := &Supervisor{}
	s.tally.masterIs("", "redis-1")
	s.tally.masterIs("redis-1", "redis-1") // only the epoch is another one
	s.tally.switched(refused("no replica"))
	s.tally.switched(&UnknownNodeError{Node: "redis-9"})
	s.tally.switches("redis-2")
	if !s.Tally().Switching {
		t.Error("none is under way")
	}
	s.tally.switched(refused("another one is under way"))
	if !s.Tally().Switching {
		t.Error("one that was refused has ended another one")
	}
	s.tally.masterIs("redis-1", "redis-2")
	s.tally.ended()
	s.tally.switched(nil)
	s.tally.masterIs("redis-2", "redis-3")
	s.tally.switches("redis-2")
	s.tally.switched(errors.New("not in time"))
	s.tally.ended()
	if got, want := s.Tally(), (Tally{Failovers: 1, Switchovers: 1, Failed: 1, Refused: 2}); got != want {
		t.Errorf("tally: %+v, want %+v", got, want)
	}
}
