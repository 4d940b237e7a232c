package response

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/redis"
)

func TestAReadThatIsGivenUpIsNotToldAsAWriteOfUnknownOutcome(t *testing.T) {
	for kind, want := range map[redis.Kind]struct {
		status int
		text   string
	}{
		redis.NotExecuted: {503, "not executed"},
		redis.GivenUp:     {504, "nothing was changed"},
		redis.Unknown:     {504, "outcome is unknown"},
	} {
		status, text := Outcome(&redis.Error{Kind: kind, Cause: errors.New("silence")})
		if status != want.status || !strings.Contains(text, want.text) {
			t.Errorf("%v: %d %s", kind, status, text)
		}
	}
}
