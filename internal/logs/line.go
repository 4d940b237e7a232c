package logs

import (
	"bytes"
	"regexp"
	"time"
)

// A stored line is its time in UTC, of stampLayout (RFC 3339 with
// microseconds), a blank, and the line as it came.
const (
	stampLayout = "2006-01-02T15:04:05.000000Z"
	stampLen    = len(stampLayout)
)

// appendStamp appends what stands before a line that was read at that time.
func appendStamp(b []byte, now time.Time) []byte {
	return append(now.UTC().AppendFormat(b, stampLayout), ' ')
}

// splitStamp takes a stored line apart. Without a stamp it is one that a node
// wrote into the file by itself, as nodes once did.
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

// ownTimes are how programs write times into lines that have no stamp: Redis,
// HAProxy (section 8.2.3 of its manual, %tr), slog, and a drill's complaints.
var ownTimes = []struct {
	pattern *regexp.Regexp
	layout  string
}{
	{regexp.MustCompile(`^\d+:[A-Z] (\d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2}\.\d{3}) `), "02 Jan 2006 15:04:05.000"},
	{regexp.MustCompile(`\[(\d{2}/\w{3}/\d{4}:\d{2}:\d{2}:\d{2}\.\d{3})\]`), "02/Jan/2006:15:04:05.000"},
	{regexp.MustCompile(`time=(\S+)`), time.RFC3339Nano},
	{regexp.MustCompile(`^(\d{4}-\d{2}-\d{2}T\S+) `), time.RFC3339Nano},
}

// ownTime is the time that a line without a stamp tells.
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
	// A line without an end is stored in pieces of maxLine bytes.
	maxLine = 32 << 10
	// Lines go on to the disk by batches of about so many bytes.
	batchSize = 64 << 10
)

// cutter makes stored lines of what a node writes. What it has cut goes to emit
// batch by batch, which may not keep it.
type cutter struct {
	emit func(batch []byte, lines int)

	out    []byte    // whole lines, and then what there is of the next one
	whole  int       // bytes of whole lines
	lines  int       // whole lines
	begun  bool      // there is a line without its end
	since  time.Time // when that line began
	length int       // of that line, without its stamp
	cut    bool      // the last line was ended by its length
}

// add takes what was read at that time.
func (c *cutter) add(b []byte, now time.Time) {
	var room [stampLen + 1]byte
	stamp := appendStamp(room[:0], now)
	for len(b) > 0 {
		if !c.begun {
			if c.cut && b[0] == '\n' { // the end that the last line had after all
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

// flush hands on the lines that are whole.
func (c *cutter) flush() {
	if c.lines == 0 {
		return
	}
	c.emit(c.out[:c.whole], c.lines)
	rest := copy(c.out, c.out[c.whole:])
	c.out, c.whole, c.lines = c.out[:rest], 0, 0
}

// close ends the line that has begun, too.
func (c *cutter) close() {
	if c.begun {
		c.end()
	}
	c.cut = false
	c.flush()
}
