package logs

import (
	"bytes"
	"regexp"
	"time"
)

// A stored line consists of the time in UTC in stampLayout (RFC 3339 with microseconds), a blank,
// and the line as the node wrote it.
const (
	stampLayout = "2006-01-02T15:04:05.000000Z"
	stampLen    = len(stampLayout)
)

// appendStamp appends the stamp of a line that was read at that time.
func appendStamp(b []byte, now time.Time) []byte {
	return append(now.UTC().AppendFormat(b, stampLayout), ' ')
}

// splitStamp splits a stored line into stamp and text. A line without a stamp was written into the
// file by the node itself, as in earlier versions.
func splitStamp(line []byte) (when time.Time, rest []byte, ok bool) {
	if len(line) <= stampLen || line[stampLen] != ' ' || line[stampLen-1] != 'Z' || line[10] != 'T' {
		return time.Time{}, line, false
	}
	when, err := time.Parse(stampLayout, string(line[:stampLen]))
	if err != nil {
		return time.Time{}, line, false
	}
	return when, line[stampLen+1:], true
}

// ownTimes are the formats in which programs write times into lines without a stamp: Redis, HAProxy
// (section 8.2.3 of its manual, %tr), slog, and the errors of a drill's undo process.
var ownTimes = []struct {
	pattern *regexp.Regexp
	layout  string
}{
	{regexp.MustCompile(`^\d+:[A-Z] (\d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2}\.\d{3}) `), "02 Jan 2006 15:04:05.000"},
	{regexp.MustCompile(`\[(\d{2}/\w{3}/\d{4}:\d{2}:\d{2}:\d{2}\.\d{3})\]`), "02/Jan/2006:15:04:05.000"},
	{regexp.MustCompile(`time=(\S+)`), time.RFC3339Nano},
	{regexp.MustCompile(`^(\d{4}-\d{2}-\d{2}T\S+) `), time.RFC3339Nano},
}

// ownTime returns the time in a line without a stamp.
func ownTime(line []byte) (time.Time, bool) {
	for _, f := range ownTimes {
		if m := f.pattern.FindSubmatch(line); m != nil {
			if t, err := time.ParseInLocation(f.layout, string(m[1]), time.Local); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

const (
	// maxLine is the length in bytes at which a line without an end is cut into pieces.
	maxLine = 32 << 10
	// batchSize is roughly how many bytes of lines are stored at once.
	batchSize = 64 << 10
)

// cutter turns the output of a node into stored lines. It passes them to emit in batches. emit must
// not keep the batch.
type cutter struct {
	emit func(batch []byte, lines int)

	out    []byte    // whole lines, followed by the beginning of the next one
	whole  int       // bytes of whole lines
	lines  int       // whole lines
	begun  bool      // out ends with a line without an end
	since  time.Time // when that line began
	length int       // of that line, without its stamp
	cut    bool      // the last line was ended by its length
}

// add adds output that was read at that time.
func (c *cutter) add(b []byte, now time.Time) {
	var room [stampLen + 1]byte
	stamp := appendStamp(room[:0], now)
	for len(b) > 0 {
		if !c.begun {
			if c.cut && b[0] == '\n' { // the end of a line that was cut at maxLine
				c.cut, b = false, b[1:]
				continue
			}
			c.out = append(c.out, stamp...)
			c.begun, c.since, c.cut, c.length = true, now, false, 0
		}
		piece := b[:min(len(b), maxLine-c.length)]
		if end := bytes.IndexByte(piece, '\n'); end >= 0 {
			c.out = append(c.out, piece[:end]...)
			b = b[end+1:]
			c.end()
			continue
		}
		c.out = append(c.out, piece...)
		b = b[len(piece):]
		if c.length += len(piece); c.length == maxLine {
			c.end()
			c.cut = true
		}
	}
}

// end ends the line that has begun.
func (c *cutter) end() {
	c.out = append(c.out, '\n')
	c.begun, c.whole = false, len(c.out)
	if c.lines++; c.whole >= batchSize {
		c.flush()
	}
}

// flush passes on the whole lines.
func (c *cutter) flush() {
	if c.lines == 0 {
		return
	}
	c.emit(c.out[:c.whole], c.lines)
	rest := copy(c.out, c.out[c.whole:])
	c.out, c.whole, c.lines = c.out[:rest], 0, 0
}

// close ends the line that has begun, and passes everything on.
func (c *cutter) close() {
	if c.begun {
		c.end()
	}
	c.cut = false
	c.flush()
}
