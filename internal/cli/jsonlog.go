package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"holdfast/internal/logs"
)

// jsonLog is the log of a container: one JSON object a line, of the supervisor, of each
// node here, and of what a command says to a person. It is safe for concurrent use.
type jsonLog struct {
	mu   sync.Mutex
	w    io.Writer // takes whole lines, and does not block
	part []byte    // a line of a person's that has no end yet
	host string    // empty: it is the only one
}

func newJSONLog(w io.Writer) *jsonLog { return &jsonLog{w: w} }

// openJSONLog opens the log on a writer that may block. The function that it returns writes
// what there is, and ends it.
func openJSONLog(w io.Writer) (j *jsonLog, end func()) {
	o := openOutlet(w, func(lines int) []byte {
		b, _ := marshalLine(jsonLine{Time: time.Now().UTC(), Node: programLines, Text: new(lostWords(lines))})
		return append(b, '\n')
	})
	j = newJSONLog(o)
	return j, func() {
		j.end()
		o.end()
	}
}

// lostWords says what is missing from a container's log.
func lostWords(lines int) string {
	return fmt.Sprintf("%d lines before this one are left out: standard output was not read fast enough; 'holdfast logs' has them", lines)
}

// programLines is the name of lines that are no node's.
const programLines = "holdfast"

// jsonLine is one line of the log. Text is what was said; a line that was a JSON object
// stands in JSON as it is.
type jsonLine struct {
	Time time.Time       `json:"time"`
	Host string          `json:"host,omitempty"`
	Node string          `json:"node"`
	Text *string         `json:"text,omitempty"`
	JSON json.RawMessage `json:"json,omitempty"`
}

// say writes a line of this program's.
func (j *jsonLog) say(text string) { j.line(programLines, time.Now(), text) }

// Write takes what is for a person, and writes each line that is whole.
func (j *jsonLog) Write(p []byte) (int, error) {
	j.mu.Lock()
	j.part = append(j.part, p...)
	var whole []string
	for {
		line, rest, ended := bytes.Cut(j.part, []byte("\n"))
		if !ended {
			break
		}
		whole = append(whole, string(line))
		j.part = rest
	}
	j.mu.Unlock()
	for _, line := range whole {
		if line = strings.TrimSpace(line); line != "" {
			j.say(line)
		}
	}
	return len(p), nil
}

// end writes a line that has no end.
func (j *jsonLog) end() { _, _ = j.Write([]byte("\n")) }

// line writes a line of a node's, which may hold anything.
func (j *jsonLog) line(node string, at time.Time, text string) {
	l := jsonLine{Time: at.UTC(), Host: j.host, Node: node}
	if object(text) {
		l.JSON = json.RawMessage(text)
	} else {
		l.Text = &text
	}
	b, err := marshalLine(l)
	if err != nil { // of what looked like JSON
		l.JSON, l.Text = nil, &text
		if b, err = marshalLine(l); err != nil {
			return // plain text always can be
		}
	}
	_, _ = j.writeLine(b)
}

// marshalLine is a value as a line of JSON, without its end.
func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is no page
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// writeLine writes a line of JSON in one piece. What is not printable is escaped, too:
// a log is looked at on terminals.
func (j *jsonLog) writeLine(b []byte) (int, error) {
	var line strings.Builder
	for _, r := range string(b) {
		switch {
		case r < utf8.RuneSelf && r != 0x7f, unicode.IsPrint(r):
			line.WriteRune(r)
		case r > 0xffff:
			first, second := utf16.EncodeRune(r)
			fmt.Fprintf(&line, `\u%04x\u%04x`, first, second)
		default:
			fmt.Fprintf(&line, `\u%04x`, r)
		}
	}
	line.WriteByte('\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	return io.WriteString(j.w, line.String())
}

// deepest is how deep a node's JSON may be nested to stay JSON: readers of logs have limits.
const deepest = 32

// object reports whether a line is a JSON object that can stand in another one, for every
// reader: its numbers fit into a float64, and its text is Unicode (RFC 8259, 6 and 8.2).
func object(line string) bool {
	if !strings.HasPrefix(line, "{") || !utf8.ValidString(line) || depth(line) > deepest {
		return false
	}
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return false
	}
	replaced := strings.ContainsRune(line, utf8.RuneError) || strings.Contains(strings.ToLower(line), `\ufffd`)
	return replaced || !replacedIn(fields)
}

// replacedIn reports whether a decoded value has the character that stands for half of a
// surrogate pair.
func replacedIn(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, utf8.RuneError)
	case []any:
		return slices.ContainsFunc(v, replacedIn)
	case map[string]any:
		for name, field := range v {
			if replacedIn(name) || replacedIn(field) {
				return true
			}
		}
	}
	return false
}

// depth is how deep a line of JSON is nested.
func depth(line string) (most int) {
	open, text, escaped := 0, false, false
	for _, c := range []byte(line) {
		switch {
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			open++
			most = max(most, open)
		case c == '}' || c == ']':
			open--
		}
	}
	return most
}

// with is the log of a supervisor: lines of text in its file, and JSON here.
// Host is the one of several that this is; empty: it is the only one.
func (j *jsonLog) with(file io.Writer, host string) *slog.Logger {
	text := slog.NewTextHandler(file, &slog.HandlerOptions{ReplaceAttr: withoutTime})
	if j == nil {
		return slog.New(text)
	}
	own := slog.NewJSONHandler(supervisorLines{j}, &slog.HandlerOptions{ReplaceAttr: asLine})
	// What is said beside the message stands apart: it could be called as a field of the line is.
	who := []slog.Attr{slog.String("node", logs.Supervisor)}
	if j.host = host; host != "" {
		who = append(who, slog.String("host", host))
	}
	return slog.New(slog.NewMultiHandler(text, own.WithAttrs(who).WithGroup("more")))
}

// asLine gives a record the fields of a line.
func asLine(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) > 0:
	case a.Key == slog.MessageKey:
		a.Key = "text"
	case a.Key == slog.TimeKey:
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// supervisorLines takes the lines of slog's JSON, one at a time.
type supervisorLines struct{ *jsonLog }

func (l supervisorLines) Write(p []byte) (int, error) {
	if _, err := l.writeLine(bytes.TrimRight(p, "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// echoEvery is how often the nodes' logs are looked at.
const echoEvery = 200 * time.Millisecond

// follow writes what the nodes of this host say from now on. The function that it returns
// writes what there is by then, and ends it.
func (j *jsonLog) follow(state string, say func(string) string) (end func()) {
	if j == nil {
		return func() {}
	}
	place := logPlace{path: filepath.Join(logs.Dir(state), logPlaceFile)}
	m := logs.NewMerged(state, logs.Query{Since: place.since(time.Now())})
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer m.Close()
		ticker := time.NewTicker(echoEvery)
		defer ticker.Stop()
		failed := ""
		for ending := false; !ending; {
			select {
			case <-ticker.C:
			case <-quit:
				ending = true
			}
			last, err := j.echo(m)
			if failed := place.keep(last); err == nil {
				err = failed
			}
			switch {
			case err == nil:
				failed = ""
			case err.Error() != failed:
				failed = err.Error()
				j.say(say("not all that the nodes say can be shown: " + failed))
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// echo writes the lines that are new, and returns when the last one was said; zero: there
// was none. The supervisor's own are here already.
func (j *jsonLog) echo(m *logs.Merged) (last time.Time, err error) {
	if _, err := m.Find(); err != nil {
		return last, err
	}
	for {
		e, there, err := m.Next()
		if err != nil || !there {
			return last, err
		}
		last = e.Time
		if e.Node != logs.Supervisor {
			j.line(e.Node, e.Time, e.Line)
		}
	}
}

// logPlace is up to where the logs of the nodes were shown, for the supervisor that takes
// over: what they say while there is none belongs to the container's log, too.
type logPlace struct {
	path string
	kept time.Time
}

const (
	logPlaceFile = "shown"
	// logPlaceMost is how old a place may be. Before that somebody else looked after the
	// nodes, or nobody did, and nothing was shown.
	logPlaceMost = time.Minute
)

// since is from when on lines are to be shown.
func (p *logPlace) since(now time.Time) time.Time {
	b, err := os.ReadFile(p.path)
	if err != nil {
		return now
	}
	last, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil || last.After(now) || now.Sub(last) > logPlaceMost {
		return now
	}
	return last.Add(time.Nanosecond)
}

// keep notes that lines were shown up to a time; zero: none were.
func (p *logPlace) keep(last time.Time) error {
	if last.IsZero() || last.Equal(p.kept) {
		return nil
	}
	// Not synced: it is a matter of seconds, and after a crash of the machine nothing runs.
	if err := os.WriteFile(p.path+".new", last.AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
		return err
	}
	p.kept = last
	return os.Rename(p.path+".new", p.path)
}
