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

// jsonLog is the log of a container: one JSON object a line, from the supervisor, from each node
// here, and from the command itself. It is safe for concurrent use.
type jsonLog struct {
	mu   sync.Mutex
	w    io.Writer // gets whole lines, and does not block
	part []byte    // the beginning of a text line whose end has not come yet
	host string    // empty: there is only one host
}

func newJSONLog(w io.Writer) *jsonLog { return &jsonLog{w: w} }

// openJSONLog opens the log on a writer that may block. The function that it returns writes what is
// left and ends the log.
func openJSONLog(w io.Writer) (j *jsonLog, closeLog func()) {
	o := openNonBlockingWriter(w, func(lines int) []byte {
		b, _ := marshalLine(jsonLine{Time: time.Now().UTC(), Node: programLines, Text: new(lostWords(lines))})
		return append(b, '\n')
	})
	j = newJSONLog(o)
	return j, func() {
		j.flush()
		o.close()
	}
}

// lostWords returns the message about lines that are missing from a container's log.
func lostWords(lines int) string {
	return fmt.Sprintf("%d lines before this one are left out: standard output was not read fast enough; 'holdfast logs' has them", lines)
}

// programLines is the node's name in lines of this program itself.
const programLines = "holdfast"

// jsonLine is one line of the log. A line that was a JSON object is in JSON as it is, and any other
// line is in Text.
type jsonLine struct {
	Time time.Time       `json:"time"`
	Host string          `json:"host,omitempty"`
	Node string          `json:"node"`
	Text *string         `json:"text,omitempty"`
	JSON json.RawMessage `json:"json,omitempty"`
}

// writeOwn writes a line of this program.
func (j *jsonLog) writeOwn(text string) { j.line(programLines, time.Now(), text) }

// Write takes text for a person, and writes each complete line of it.
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
			j.writeOwn(line)
		}
	}
	return len(p), nil
}

// flush writes a line whose end has not come.
func (j *jsonLog) flush() { _, _ = j.Write([]byte("\n")) }

// line writes a line of a node, which may contain anything.
func (j *jsonLog) line(node string, at time.Time, text string) {
	l := jsonLine{Time: at.UTC(), Host: j.host, Node: node}
	if isJSONObject(text) {
		l.JSON = json.RawMessage(text)
	} else {
		l.Text = &text
	}
	b, err := marshalLine(l)
	if err != nil { // the line only looked like JSON
		l.JSON, l.Text = nil, &text
		if b, err = marshalLine(l); err != nil {
			return // cannot happen with plain text
		}
	}
	_, _ = j.writeLine(b)
}

// marshalLine returns a value as JSON, without a line end.
func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the log is not a web page
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// writeLine writes a line of JSON in one piece. It also escapes what is not printable, because logs
// are read on terminals.
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

// maxDepth is how deeply JSON in a node's line may be nested to be kept as JSON: readers of logs
// have limits.
const maxDepth = 32

// isJSONObject reports whether a line is a JSON object that can be part of another one for every
// reader: its numbers fit into a float64, and its text is Unicode (RFC 8259, 6 and 8.2).
func isJSONObject(line string) bool {
	if !strings.HasPrefix(line, "{") || !utf8.ValidString(line) || depth(line) > maxDepth {
		return false
	}
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return false
	}
	replaced := strings.ContainsRune(line, utf8.RuneError) || strings.Contains(strings.ToLower(line), `\ufffd`)
	return replaced || !replacedIn(fields)
}

// replacedIn reports whether a decoded value contains the character that replaces half of a
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

// depth returns how deeply a line of JSON is nested.
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

// with returns the log of a supervisor, which writes text to its file and JSON to j. host is the
// name of this host; empty: there is only one.
func (j *jsonLog) with(file io.Writer, host string) *slog.Logger {
	text := slog.NewTextHandler(file, &slog.HandlerOptions{ReplaceAttr: withoutTime})
	if j == nil {
		return slog.New(text)
	}
	own := slog.NewJSONHandler(supervisorLines{j}, &slog.HandlerOptions{ReplaceAttr: asLine})
	// Attributes are in a group of their own, because they could have the name of a field of the
	// line.
	who := []slog.Attr{slog.String("node", logs.Supervisor)}
	if j.host = host; host != "" {
		who = append(who, slog.String("host", host))
	}
	return slog.New(slog.NewMultiHandler(text, own.WithAttrs(who).WithGroup("more")))
}

// asLine renames the attributes of a record to the fields of a line.
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

// supervisorLines gets the lines of slog's JSON, one at a time.
type supervisorLines struct{ *jsonLog }

func (l supervisorLines) Write(p []byte) (int, error) {
	if _, err := l.writeLine(bytes.TrimRight(p, "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// copyEvery is the time between two looks at the nodes' logs.
const copyEvery = 200 * time.Millisecond

// follow writes what the nodes of this host write from now on. The function that it returns writes
// what is left and ends that.
func (j *jsonLog) follow(state string, render func(string) string) (stop func()) {
	if j == nil {
		return func() {}
	}

	cursor := logCursor{path: filepath.Join(logs.Dir(state), logCursorFile)}
	m := logs.NewMerged(state, logs.Query{Since: cursor.since(time.Now())})
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer m.Close()
		ticker := time.NewTicker(copyEvery)
		defer ticker.Stop()
		failed := ""
		for ending := false; !ending; {
			select {
			case <-ticker.C:
			case <-quit:
				ending = true
			}
			last, err := j.copyNewLines(m)
			if failed := cursor.keep(last); err == nil {
				err = failed
			}
			switch {
			case err == nil:
				failed = ""
			case err.Error() != failed:
				failed = err.Error()
				j.writeOwn(render("not all that the nodes say can be shown: " + failed))
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// copyNewLines writes the new lines, and returns the time of the last one; zero: there was none. It
// skips those of the supervisor, which come by another way.
func (j *jsonLog) copyNewLines(m *logs.Merged) (last time.Time, err error) {
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

// logCursor is the time up to which the nodes' logs were shown. It is kept for the next supervisor:
// what the nodes write while there is no supervisor belongs to the container's log, too.
type logCursor struct {
	path string
	kept time.Time
}

const (
	logCursorFile = "shown"
	// maxCursorAge is how old that time may be. With an older one, the nodes were in the meantime
	// looked after by another supervisor, or by none, and nothing was shown.
	maxCursorAge = time.Minute
)

// since returns the time from which lines are to be shown.
func (p *logCursor) since(now time.Time) time.Time {
	b, err := os.ReadFile(p.path)
	if err != nil {
		return now
	}
	last, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil || last.After(now) || now.Sub(last) > maxCursorAge {
		return now
	}
	return last.Add(time.Nanosecond)
}

// keep stores the time up to which lines were shown; zero: no line was.
func (p *logCursor) keep(last time.Time) error {
	if last.IsZero() || last.Equal(p.kept) {
		return nil
	}
	// It is not synced: it is a matter of seconds, and nothing runs after a crash of the machine.
	if err := os.WriteFile(p.path+".new", last.AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
		return err
	}
	p.kept = last
	return os.Rename(p.path+".new", p.path)
}
