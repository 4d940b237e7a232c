package logs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// put appends lines to a file of a log.
func put(t *testing.T, path string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, line := range lines {
		fmt.Fprintln(f, line)
	}
}

// at returns a stored line of that many seconds after noon.
func at(seconds int, line string) string {
	return string(appendStamp(nil, noon.Add(time.Duration(seconds)*time.Second))) + line
}

// rest returns the lines that a reader has now.
func rest(t *testing.T, r *Reader) []string {
	t.Helper()
	var lines []string
	for {
		e, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return lines
		}
		lines = append(lines, e.Line)
	}
}

func TestALogIsReadOverTheFilesThatWereSetAside(t *testing.T) {
	state := newState(t)
	path := File(state, "web-1")
	put(t, path+".2", at(1, "a"), at(2, "b"))
	put(t, path+".1", at(3, "c"))
	put(t, path, at(4, "d"), at(5, "e"))
	for lines, want := range map[int]string{0: "a b c d e", 1: "e", 2: "d e", 3: "c d e", 4: "b c d e", 5: "a b c d e", 9: "a b c d e"} {
		r := NewReader(state, "web-1", time.Time{})
		if lines > 0 {
			if err := r.SkipTo(lines); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(rest(t, r), " "); got != want {
			t.Errorf("%d lines: %q, want %q", lines, got, want)
		}
		r.Close()
	}
	r := NewReader(state, "web-1", noon.Add(3*time.Second))
	defer r.Close()
	if got := strings.Join(rest(t, r), " "); got != "c d e" {
		t.Errorf("since the third second: %q", got)
	}
}

func TestALogIsFollowedWhileItIsSetAside(t *testing.T) {
	state := newState(t)
	path := File(state, "web-1")
	r := NewReader(state, "web-1", time.Time{})
	defer r.Close()
	if got := rest(t, r); got != nil {
		t.Errorf("before there is a log: %q", got)
	}
	s := newStore(path)
	defer s.close()
	s.size = 3 * noteRoom
	var want, got []string
	for i := range 200 {
		line := fmt.Sprintf("line %d %s", i, strings.Repeat("x", 200))
		s.write([]byte(at(i, line)+"\n"), 1)
		want = append(want, line)
		if i%7 == 0 {
			got = append(got, rest(t, r)...)
		}
	}
	got = append(got, rest(t, r)...)
	if !slices.Equal(got, want) {
		t.Errorf("%d lines were read of %d", len(got), len(want))
	}
	if _, files := taken(t, path); files != fileKeep+1 {
		t.Errorf("%d files", files)
	}

	put(t, path, "no end")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rest(t, r)
	f.WriteString(at(1, "be"))
	if got := rest(t, r); got != nil {
		t.Errorf("half a line: %q", got)
	}
	f.WriteString("gun\n")
	if got := rest(t, r); !slices.Equal(got, []string{"begun"}) {
		t.Errorf("the whole line: %q", got)
	}
	os.Truncate(path, 0)
	rest(t, r)
	put(t, path, at(1, "emptied"))
	if got := rest(t, r); !slices.Equal(got, []string{"emptied"}) {
		t.Errorf("after it was emptied: %q", got)
	}
}

func TestLogsFromBeforeTheStampAreReadWithTheirOwnTimes(t *testing.T) {
	state := newState(t)
	put(t, File(state, "redis-1"),
		"no time yet",
		"11654:X 28 Nov 2026 18:16:00.020 * Running mode=sentinel",
		"  a line that belongs to it",
		`127.0.0.1:1 [28/Nov/2026:18:16:01.711] entry site/<NOSRV> 0/0/0/-1/4479 503`,
		"time=2026-11-28T18:16:02.073Z level=INFO msg=started",
		"2026-11-28T18:16:03Z a drill was killed",
		at(0, "and from now on with a stamp"),
	)
	r := NewReader(state, "redis-1", time.Time{})
	defer r.Close()
	local := func(seconds, millis int) time.Time {
		return time.Date(2026, 11, 28, 18, 16, seconds, millis*1e6, time.Local)
	}
	utc := func(seconds, millis int) time.Time {
		return time.Date(2026, 11, 28, 18, 16, seconds, millis*1e6, time.UTC)
	}
	for _, want := range []time.Time{{}, local(0, 20), local(0, 20), local(1, 711), utc(2, 73), utc(3, 0), noon} {
		e, ok, err := r.Next()
		if err != nil || !ok {
			t.Fatalf("%t, %v", ok, err)
		}
		if !e.Time.Equal(want) || e.Stamped != want.Equal(noon) {
			t.Errorf("%q: %v, want %v", e.Line, e.Time, want)
		}
	}
}
