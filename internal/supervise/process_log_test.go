package supervise

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"holdfast/internal/logs"
)

func TestTheLastWordsOfANodeAreThoseOfOneProcess(t *testing.T) {
	state := t.TempDir()
	if err := os.MkdirAll(logs.Dir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Truncate(time.Microsecond)
	say := func(words string) {
		f, err := os.OpenFile(logs.File(state, "web-1"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		at = at.Add(time.Millisecond)
		fmt.Fprintf(f, "%s %s\n", at.UTC().Format("2006-01-02T15:04:05.000000Z"), words)
	}
	tail := func(since time.Time) []string { return logs.Tail(state, "web-1", since) }
	var l processLog
	check := func(when string, step time.Time, ofLast, since []string) {
		t.Helper()
		if got := l.ofLastStart(tail); !slices.Equal(got, ofLast) {
			t.Errorf("%s: the last start said %q, want %q", when, got, ofLast)
		}
		if got := l.since(step, tail); !slices.Equal(got, since) {
			t.Errorf("%s: since the step: %q, want %q", when, got, since)
		}
	}
	say("first: hello")
	say("first: I was told to stop")

	const between = 100 * time.Nanosecond // a start comes between two lines, at a time finer than theirs
	step := at.Add(time.Microsecond + between)
	l.begin(step, "")
	say("second: hello")
	check("while it runs", step, []string{"second: hello"}, []string{"second: hello"})
	say("second: no harbour")
	l.end(tail)
	check("when it has died", step, []string{"second: hello", "second: no harbour"}, []string{"second: hello", "second: no harbour"})

	l.begin(at.Add(time.Microsecond+between), "")
	say("third: hello")
	check("when the next one runs", step, []string{"third: hello"}, []string{"second: hello", "second: no harbour"})
	check("of a step after it", at.Add(time.Second), []string{"third: hello"}, nil)

	l.begin(at.Add(time.Microsecond+between), "")
	check("when the last could not be started", at, nil, nil)
}
