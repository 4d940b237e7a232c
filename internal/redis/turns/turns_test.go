package turns

import (
	"strconv"
	"testing"
	"time"

	"holdfast/internal/redis/operation"
)

// On a machine without enough processor time every exchange takes long. A script is not
// taken for a long one for that.
func TestAScriptsTimeIsWithoutTheWayToRedis(t *testing.T) {
	for _, c := range []struct {
		what        string
		lease, took time.Duration
		fate        ScriptFate
		short       bool
	}{
		{"all is quick", time.Millisecond, 2 * time.Millisecond, ScriptEnded, true},
		{"the way is long", 40 * time.Millisecond, 45 * time.Millisecond, ScriptEnded, true},
		{"the script is long", 2 * time.Millisecond, 15 * time.Millisecond, ScriptEnded, false},
		{"both are long", 40 * time.Millisecond, 55 * time.Millisecond, ScriptEnded, false},
		{"the way is so long that it hides everything", 200 * time.Millisecond, 205 * time.Millisecond, ScriptEnded, false},
		{"it had to be ended", 100 * time.Millisecond, 105 * time.Millisecond, ScriptKilled, false},
	} {
		var exchanges Trips
		exchanges.Add(c.lease)
		exchanges.Add(c.took)
		l := NewLines()
		l.Running = runningScript{1, "a"}
		l.learn(c.lease+c.took, exchanges.Own(), c.fate)
		if _, short := l.Scripts[1]; short != c.short {
			t.Errorf("%s: known as short: %v", c.what, short)
		}
	}
}

func TestLinesOfSendersThatAreGoneAreForgotten(t *testing.T) {
	l := NewLines()
	for i := range 3 * maxLines {
		o := &operation.Operation{Sender: strconv.Itoa(i)}
		l.Push(o)
		line, _ := l.First(time.Now())
		l.Pop(line)
		l.Taken(line)
		l.Weighed(nil)
	}
	if len(l.of) > maxLines {
		t.Errorf("%d lines are kept", len(l.of))
	}
}
