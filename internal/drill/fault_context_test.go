package drill

import (
	"testing"
	"time"

	"holdfast/internal/history"
)

// Half a second without trouble counts as recovered. The look at what is under load takes that
// long: if the fault began with it, the cost of the injection would be hidden.
func TestAFaultBeginsWithItsFirstBlow(t *testing.T) {
	fc := faultContext{record: &history.Fault{Began: time.Second}, began: time.Now().Add(-5 * time.Second)}
	fc.evidence("it was under load")
	if fc.record.Began != time.Second {
		t.Errorf("it began at %v", fc.record.Began)
	}
	fc.recordInjection("web-1")
	first := fc.record.Began
	if first < 5*time.Second || first != fc.record.Moments[0] {
		t.Errorf("it began at %v, and was struck at %v", first, fc.record.Moments)
	}
	fc.recordInjection("web-2")
	if fc.record.Began != first || len(fc.record.Moments) != 2 {
		t.Errorf("after the second blow it began at %v", fc.record.Began)
	}
}
