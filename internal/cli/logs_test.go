package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSinceIsATimeOrHowLongAgo(t *testing.T) {
	zone := time.FixedZone("there", 3600)
	now := time.Date(2026, 11, 28, 14, 0, 0, 0, zone)
	for word, want := range map[string]time.Time{
		"90s":                       now.Add(-90 * time.Second),
		"1h30m":                     now.Add(-90 * time.Minute),
		"2d":                        now.Add(-48 * time.Hour),
		"0s":                        now,
		"2026-11-28T12:00:00Z":      now.Add(-time.Hour),
		"2026-11-28T12:00:00.5Z":    now.Add(-time.Hour + 500*time.Millisecond),
		"2026-11-28T14:00:00+01:00": now,
		"2026-11-28T13:00:00":       now.Add(-time.Hour),
		"2026-11-28 13:00:30":       now.Add(-time.Hour + 30*time.Second),
		"2026-11-28 13:00":          now.Add(-time.Hour),
		"2026-11-28T13:00+01:00":    now.Add(-time.Hour),
		"2026-11-28 13:00:30+01:00": now.Add(-time.Hour + 30*time.Second),
		"2026-11-28 12:00Z":         now.Add(-time.Hour),
		"2026-11-28":                time.Date(2026, 11, 28, 0, 0, 0, 0, zone),
		"13:30":                     now.Add(-30 * time.Minute),
		"13:30:15":                  now.Add(-30*time.Minute + 15*time.Second),
	} {
		got, err := parseSince(word, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", word, got, err, want)
		}
	}
	for _, word := range []string{"", "-5m", "-1d", "yesterday", "5", "d", "NaNd", "25:00", "2026-13-01"} {
		var usage usageError
		if _, err := parseSince(word, now); !errors.As(err, &usage) || !strings.Contains(err.Error(), "--since") {
			t.Errorf("%q: %v", word, err)
		}
	}
}

// logsOf runs 'holdfast logs' on log files.
func logsOf(t *testing.T, files map[string]string, args ...string) (string, error) {
	t.Helper()
	state := t.TempDir()
	if err := os.Mkdir(filepath.Join(state, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(state, "logs", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	err := Run(t.Context(), append([]string{"logs", "--state", state}, args...), nil, &out, &out, func(string) string { return "" })
	return out.String(), err
}

// All tests use one time zone, wherever they run. It is set here, before any goroutine reads the
// time: those of a web node do so until the program ends.
func init() { time.Local = time.FixedZone("there", 3600) }

func TestLogsOfAllAreMergedByTheTimesOfTheirLines(t *testing.T) {
	files := map[string]string{
		"web-1.log.1":     "2026-11-28T12:00:00.000001Z first\n",
		"web-1.log":       "2026-11-28T12:00:00.000004Z fourth\n2026-11-28T12:00:00.000004Z   of it\n",
		"web-2.log":       "2026-11-28T12:00:00.000002Z second\n",
		"web-other-1.log": "2026-11-28T12:00:00.000003Z third\n",
		"supervisor.log":  "2026-11-28T12:00:00.000005Z level=INFO msg=fifth\n",
	}
	for args, want := range map[string]string{
		"": `web-1       | 2026-11-28T13:00:00.000001+01:00 first
web-2       | 2026-11-28T13:00:00.000002+01:00 second
web-other-1 | 2026-11-28T13:00:00.000003+01:00 third
web-1       | 2026-11-28T13:00:00.000004+01:00 fourth
web-1       | 2026-11-28T13:00:00.000004+01:00   of it
supervisor  | 2026-11-28T13:00:00.000005+01:00 level=INFO msg=fifth
`,
		"web": `web-1 | 2026-11-28T13:00:00.000001+01:00 first
web-2 | 2026-11-28T13:00:00.000002+01:00 second
web-1 | 2026-11-28T13:00:00.000004+01:00 fourth
web-1 | 2026-11-28T13:00:00.000004+01:00   of it
`,
		"web -n 1": `web-2 | 2026-11-28T13:00:00.000002+01:00 second
web-1 | 2026-11-28T13:00:00.000004+01:00   of it
`,
		"web-2":      "2026-11-28T13:00:00.000002+01:00 second\n",
		"supervisor": "2026-11-28T13:00:00.000005+01:00 level=INFO msg=fifth\n",
		"--since 2026-11-28T12:00:00.000004Z -n 1": `web-1       | 2026-11-28T13:00:00.000004+01:00   of it
supervisor  | 2026-11-28T13:00:00.000005+01:00 level=INFO msg=fifth
`,
		"web-1 --since 2026-11-28T12:00:00.000004Z": `2026-11-28T13:00:00.000004+01:00 fourth
2026-11-28T13:00:00.000004+01:00   of it
`,
	} {
		got, err := logsOf(t, files, strings.Fields(args)...)
		if err != nil || got != want {
			t.Errorf("logs %s: %v\n%swant:\n%s", args, err, got, want)
		}
	}
	var usage usageError
	if _, err := logsOf(t, files, "nobody"); !errors.As(err, &usage) || !strings.Contains(err.Error(), `"nobody"`) || !strings.Contains(err.Error(), "web-other-1") {
		t.Errorf("a name that is none: %v", err)
	}
	for _, name := range []string{"web", "web-1"} { // applications of the default stack
		_, err := logsOf(t, map[string]string{"supervisor.log": "started\n"}, name)
		if err == nil || errors.As(err, &usage) || !strings.Contains(err.Error(), name+" has written nothing yet") {
			t.Errorf("an application that is silent, %s: %v", name, err)
		}
	}
	if _, err := logsOf(t, files, "web-3"); !errors.As(err, &usage) {
		t.Errorf("a node that there is not: %v", err)
	}
	if _, err := logsOf(t, nil); err == nil || !strings.Contains(err.Error(), "has not run yet") {
		t.Errorf("without logs: %v", err)
	}
}
