package supervise

import (
	"testing"

	"holdfast/internal/plan"
)

// A host is away when the supervisor starts, and is back when its nodes are started.
func TestAProgramIsLookedForOnAHostThatWasAway(t *testing.T) {
	s := &Supervisor{ctx: t.Context(), hosts: hostsAt(t.TempDir()), programs: map[programAt]string{}}
	s.plan = plan.Plan{Hosts: []plan.Host{{Processes: []plan.Process{{Node: "web-1", Program: "sh"}}}}}
	path := s.program("web-1", "sh")
	if path == "" || s.programs[programAt{program: "sh"}] != path {
		t.Errorf("it is %q, and %v are remembered", path, s.programs)
	}
}
