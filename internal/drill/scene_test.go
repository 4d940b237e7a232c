package drill

import (
	"testing"
	"time"

	"holdfast/internal/history"
)

// Half a second without trouble counts as recovered. The look at what is under load takes that
// long: if the fault began with it, the cost of the blow would be hidden.
func TestAFaultBeginsWithItsFirstBlow(t *testing.T) {
	s := scene{record: &history.Fault{Began: time.Second}, began: time.Now().Add(-5 * time.Second)}
	s.evidence("it was under load")
	if s.record.Began != time.Second {
		t.Errorf("it began at %v", s.record.Began)
	}
	s.blow("web-1")
	first := s.record.Began
	if first < 5*time.Second || first != s.record.Moments[0] {
		t.Errorf("it began at %v, and was struck at %v", first, s.record.Moments)
	}
	s.blow("web-2")
	if s.record.Began != first || len(s.record.Moments) != 2 {
		t.Errorf("after the second blow it began at %v", s.record.Began)
	}
}
