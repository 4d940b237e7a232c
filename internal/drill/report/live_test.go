package report

import (
	"strings"
	"testing"
	"time"
)

func TestProgressElsewhereIsALineEveryFewSeconds(t *testing.T) {
	var b strings.Builder
	l := NewLive(&b, false, nil)
	for i := range 60 {
		phase := "load"
		if i >= 30 {
			phase = "killing redis-1\x1b[2J"
		}
		l.Show(Progress{Elapsed: time.Duration(i) * 200 * time.Millisecond, Of: 40 * time.Second, Phase: phase, Rate: 500, InFlight: 3, Longest: 12 * time.Millisecond})
	}
	l.Note("fault 1 is over")
	l.End()
	want := `  0 s of 40 s  load:   500 ok/s,   3 in flight, longest 12 ms, 0 failed, 0 unknown
  5 s of 40 s  load:   500 ok/s,   3 in flight, longest 12 ms, 0 failed, 0 unknown
  6 s of 40 s  killing redis-1\x1b[2J:   500 ok/s,   3 in flight, longest 12 ms, 0 failed, 0 unknown
 11 s of 40 s  killing redis-1\x1b[2J:   500 ok/s,   3 in flight, longest 12 ms, 0 failed, 0 unknown
fault 1 is over
`
	if b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
}

func TestProgressOnATerminalIsRedrawnInPlace(t *testing.T) {
	var b strings.Builder
	l := NewLive(&b, true, func() int { return 100 })
	l.Show(Progress{Phase: "load", Rate: 250})
	l.Show(Progress{Elapsed: time.Second, Phase: "killing redis-1 \x1b[2J\r\n", Rate: 500, Failed: 2})
	l.Note("kill-master redis-1: pause 1.21 s\a")
	l.End()
	s := screen(b.String())
	if s != "kill-master redis-1: pause 1.21 s\\a\n" {
		t.Errorf("in the end there stands:\n%s", s)
	}
	b.Reset()
	l.Show(Progress{Elapsed: 2 * time.Second, Phase: "killing redis-1 \x1b[2J\r\n", Rate: 0, Failed: 2, Unknown: 1, Longest: 1210 * time.Millisecond})
	s = screen(b.String())
	want := "  2 s  killing redis-1 \\x1b[2J\\r\\n\n      0 ok/s,   0 in flight, longest 1.21 s, 2 failed, 1 unknown  ▄█ \n"
	if s != want {
		t.Errorf("there stands:\n%q, want\n%q", s, want)
	}
}

func TestProgressFitsANarrowTerminal(t *testing.T) {
	var b strings.Builder
	l := NewLive(&b, true, func() int { return 40 })
	l.Show(Progress{Phase: strings.Repeat("killing ", 40), Rate: 1e9, InFlight: 1e6, Failed: 1e6, Unknown: 1e6, Longest: time.Hour})
	for line := range strings.Lines(screen(b.String())) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 39 {
			t.Errorf("a line of %d characters on a terminal of 40: %s", n, line)
		}
	}
}

// screen returns what a terminal shows after it was sent a text. It understands moving up and
// clearing downwards, and ignores colours.
func screen(s string) string {
	for _, code := range []string{bold, dim, red, green, yellow, plain} {
		s = strings.ReplaceAll(s, code, "")
	}
	var lines []string
	for {
		before, after, found := strings.Cut(s, "\x1b[J")
		up := 0
		if found {
			at := strings.LastIndex(before, "\x1b[")
			up = int(before[at+2] - '0')
			before = before[:at]
		}
		for line := range strings.Lines(before) {
			lines = append(lines, line)
		}
		if !found {
			return strings.Join(lines, "")
		}
		lines = lines[:len(lines)-up]
		s = after
	}
}
