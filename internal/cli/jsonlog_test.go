package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

func TestALineOfANodeIsOneObjectWhateverItHolds(t *testing.T) {
	deep := `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + "}"
	for said, want := range map[string]string{
		"plain":                        `"text":"plain"`,
		`{"level":"info","n":1}`:       `"json":{"level":"info","n":1}`,
		`{"a": [1, {"b": "]}\""}]}`:    `"json":{"a":[1,{"b":"]}\""}]}`,
		`{"half":`:                     `"text":"{\"half\":"`,
		`{} {}`:                        `"text":"{} {}"`,
		`[1]`:                          `"text":"[1]"`,
		`"},"node":"redis-1`:           `"text":"\"},\"node\":\"redis-1"`,
		"\x1b[31mred\u009b2J\u202e":    `"text":"\u001b[31mred\u009b2J\u202e"`,
		"{\"a\":\"\u009b\U000e0001\"}": `"json":{"a":"\u009b\udb40\udc01"}`,
		"{\"a\":\"\xff\"}":             `"text":"{\"a\":\"\ufffd\"}"`,
		"\xff":                         `"text":"\ufffd"`,
		deep:                           `"text":"{\"a\":` + strings.Repeat("[", maxDepth),
		"<b>&":                         `"text":"<b>&"`,
		"":                             `"text":""`,
		`{"n":1e400}`:                  `"text":"{\"n\":1e400}"`,
		`{"a":"\ud83d\ude00"}`:         `"json":{"a":"\ud83d\ude00"}`,
		`{"a":{"b":["\ud83d"]}}`:       `"text":"{\"a\":{\"b\":[\"\\ud83d\"]}}"`,
		`{"a":"\ufffd"}`:               `"json":{"a":"\ufffd"}`,
	} {
		var b bytes.Buffer
		j := newJSONLog(&b)
		j.line("web-1", time.Date(2026, 11, 28, 14, 30, 0, 0, time.UTC), said)
		line := b.String()
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "}\n") || !json.Valid(b.Bytes()) {
			t.Errorf("%q: not one line of JSON: %q", said, line)
		}
		if !strings.HasPrefix(line, `{"time":"2026-11-28T14:30:00Z","node":"web-1",`) || !strings.Contains(line, want) {
			t.Errorf("%q: %s, want %s", said, line, want)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q: %q has a character that a terminal obeys at %d", said, line, i)
		}
	}
}

func TestWhatIsForAPersonComesLineByLine(t *testing.T) {
	var b bytes.Buffer
	j := newJSONLog(&b)
	j.Write([]byte("\none "))
	j.Write([]byte("line\n  two\nthe last"))
	j.flush()
	var said []string
	for line := range strings.Lines(b.String()) {
		var l jsonLine
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Node != programLines || l.Time.IsZero() {
			t.Fatalf("%q: %v", line, err)
		}
		said = append(said, *l.Text)
	}
	if got := strings.Join(said, "|"); got != "one line|two|the last" {
		t.Errorf("lines: %q", got)
	}
}

func TestASupervisorsLineKeepsItsFieldsApart(t *testing.T) {
	var file, out bytes.Buffer
	newJSONLog(&out).with(&file, "two").Warn("a node died", "node", "web-1", "error", errors.New("a\x1bb"))
	var l struct {
		Node, Host, Level, Text string
		More                    map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &l); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	if l.Node != "supervisor" || l.Host != "two" || l.Level != "WARN" || l.Text != "a node died" || l.More["node"] != "web-1" || l.More["error"] != "a\x1bb" {
		t.Errorf("line: %s", out.String())
	}
	if got := file.String(); got != "level=WARN msg=\"a node died\" node=web-1 error=\"a\\x1bb\"\n" {
		t.Errorf("file: %q", got)
	}
}

// stuck is a reader of the log that stops until it is closed.
type stuck struct {
	open  chan struct{}
	mu    sync.Mutex
	lines bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.open
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.Write(p)
}

func TestNobodyWaitsForTheContainersLog(t *testing.T) {
	reader := &stuck{open: make(chan struct{})}
	j, end := openJSONLog(reader)
	const said = 40_000
	for range said { // far more than there is room for
		j.line("web-1", time.Now(), strings.Repeat("x", 100))
	}
	close(reader.open)
	j.writeOwn("the last") // there is room again, now or at the end
	end()

	shown, missing := 0, 0
	for line := range strings.Lines(reader.lines.String()) {
		var l jsonLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%.80q: %v", line, err)
		}
		n := 0
		if _, err := fmt.Sscanf(*l.Text, "%d lines before this one are left out", &n); err == nil {
			missing += n
		} else {
			shown++
		}
	}
	if shown == 0 || missing == 0 || shown+missing != said+1 {
		t.Errorf("%d lines are shown and %d missing of %d", shown, missing, said+1)
	}
}

func TestTheLogGoesOnWhereTheFormerSupervisorLeftIt(t *testing.T) {
	now := time.Date(2026, 11, 28, 14, 30, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), logCursorFile)
	if got := (&logCursor{path: path}).since(now); !got.Equal(now) {
		t.Errorf("without a place: from %v on", got)
	}
	last := now.Add(-3*time.Second + 5)
	if err := (&logCursor{path: path}).keep(last); err != nil {
		t.Fatal(err)
	}
	if got := (&logCursor{path: path}).since(now); !got.Equal(last.Add(1)) {
		t.Errorf("from %v on, not after %v", got, last)
	}
	if later := now.Add(2 * maxCursorAge); !(&logCursor{path: path}).since(later).Equal(later) {
		t.Error("an old place is gone on from")
	}
}
