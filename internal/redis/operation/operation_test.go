package operation_test

import (
	"errors"
	"testing"

	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
)

func TestARefusalAfterALostAttemptIsUnknown(t *testing.T) {
	cause := errors.New("OOM command not allowed")
	o := &operation.Operation{Writes: true, Record: "record"}
	if err := o.Refusal(cause); outcome.KindOf(err) != outcome.Refused {
		t.Errorf("the first attempt: %v, want refused", err)
	}
	o.Sent = true
	if err := o.Refusal(cause); outcome.KindOf(err) != outcome.Unknown || !errors.Is(err, cause) {
		t.Errorf("after an attempt that was lost: %v, want unknown", err)
	}
	if err := o.Without(); outcome.KindOf(err) != outcome.Unknown {
		t.Errorf("given up after an attempt that was lost: %v, want unknown", err)
	}
	if err := new(operation.Operation).Without(); outcome.KindOf(err) != outcome.NotExecuted {
		t.Errorf("given up before any attempt: %v, want not executed", err)
	}
}
