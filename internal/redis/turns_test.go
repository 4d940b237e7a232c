package redis

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
		fate        scriptFate
		short       bool
	}{
		{"all is quick", time.Millisecond, 2 * time.Millisecond, scriptEnded, true},
		{"the way is long", 40 * time.Millisecond, 45 * time.Millisecond, scriptEnded, true},
		{"the script is long", 2 * time.Millisecond, 15 * time.Millisecond, scriptEnded, false},
		{"both are long", 40 * time.Millisecond, 55 * time.Millisecond, scriptEnded, false},
		{"the way is so long that it hides everything", 200 * time.Millisecond, 205 * time.Millisecond, scriptEnded, false},
		{"it had to be ended", 100 * time.Millisecond, 105 * time.Millisecond, scriptKilled, false},
	} {
		var exchanges trips
		exchanges.add(c.lease)
		exchanges.add(c.took)
		l := newLines()
		l.running = runningScript{1, "a"}
		l.learn(c.lease+c.took, exchanges.own(), c.fate)
		if _, short := l.scripts[1]; short != c.short {
			t.Errorf("%s: known as short: %v", c.what, short)
		}
	}
}

func TestLinesOfSendersThatAreGoneAreForgotten(t *testing.T) {
	l := newLines()
	for i := range 3 * maxLines {
		o := &operation.Operation{Sender: strconv.Itoa(i)}
		l.push(o)
		line, _ := l.first(time.Now())
		l.pop(line)
		l.taken(line)
		l.weighed(nil)
	}
	if len(l.of) > maxLines {
		t.Errorf("%d lines are kept", len(l.of))
	}
}
