package once

import (
	"errors"
	"strings"
	"testing"
)

// A version of Holdfast that knows only the records of EXEC reads no answer from that of a script.
func TestARecordOfAScriptIsNoneOfEXEC(t *testing.T) {
	for n := range 100 {
		if _, err := Replay([]byte(answersForm+strings.Repeat("\x00", n)), 0); !errors.Is(err, ErrDone) {
			t.Errorf("a record of the script with %d bytes: %v", n, err)
		}
	}
}
