package logs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Entry is one line of a log.
type Entry struct {
	Node string
	Time time.Time
	// Stamped is true if the log writer stamped the line when it read it. Otherwise Time is the
	// time that the line itself contains, or that of the line before it.
	Stamped bool
	Line    string
}

// Reader reads the log of one node from its oldest line on, across the renamed files. It is not
// safe for concurrent use.
type Reader struct {
	node  string
	path  string
	since time.Time

	file   *os.File
	in     *bufio.Reader
	offset int64 // of the next line
	part   []byte
	last   time.Time
	begun  bool
}

// NewReader returns a reader of the lines since a time; zero: all lines. It opens nothing yet.
func NewReader(state, node string, since time.Time) *Reader {
	return &Reader{node: node, path: File(state, node), since: since, in: bufio.NewReaderSize(nil, 2*maxLine)}
}

// Close closes the open file.
func (r *Reader) Close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// SkipTo skips all but that many of the lines that are there now. It must be called before Next.
func (r *Reader) SkipTo(lines int) error {
	for i := 0; i <= fileKeep; i++ {
		f, err := os.Open(aside(r.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		offset, found, err := lastLines(f, lines)
		if err != nil {
			f.Close()
			return err
		}
		r.Close()
		r.start(f, offset)
		if lines -= found; lines == 0 {
			break
		}
	}
	return nil
}

// lastLines returns where the last lines of a file begin, and how many there are.
func lastLines(f *os.File, lines int) (offset int64, found int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 64<<10)
	for at := end; at > 0; {
		n := min(at, int64(len(buf)))
		at -= n
		if _, err := f.ReadAt(buf[:n], at); err != nil && err != io.EOF { // it was cut meanwhile
			return 0, 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] != '\n' || at+i == end-1 {
				continue
			}
			if found++; found == lines {
				return at + i + 1, found, nil
			}
		}
	}
	if end > 0 {
		found++ // the first line of the file
	}
	return 0, found, nil
}

// start reads a file from an offset on.
func (r *Reader) start(f *os.File, offset int64) {
	r.file, r.offset, r.part, r.begun = f, offset, r.part[:0], true
	r.in.Reset(io.NewSectionReader(f, offset, 1<<62))
}

// Next returns the next line, or false if there is none yet.
func (r *Reader) Next() (Entry, bool, error) {
	if !r.begun {
		if ok, err := r.oldest(); !ok {
			return Entry{}, false, err
		}
	}
	for {
		line, ok, err := r.line()
		if err != nil || !ok {
			return Entry{}, false, err
		}
		e := r.entry(line)
		if e.Time.Before(r.since) {
			continue
		}
		return e, true, nil
	}
}

func (r *Reader) entry(line []byte) Entry {
	when, rest, stamped := splitStamp(line)
	if !stamped {
		if t, ok := ownTime(line); ok {
			when = t
		} else {
			when = r.last
		}
	}
	r.last = when
	return Entry{Node: r.node, Time: when, Stamped: stamped, Line: strings.TrimRight(string(rest), "\r")}
}

// line returns the next complete line, from this file or a newer one.
func (r *Reader) line() (line []byte, ok bool, err error) {
	for {
		if line, ok, err = r.lineHere(); ok || err != nil {
			return line, ok, err
		}
		// First look whether there is a newer file, and only then whether more was written to this
		// one before it was renamed.
		newer, err := r.newer()
		if err != nil || newer == nil {
			return nil, false, err
		}
		if line, ok, err = r.lineHere(); ok || err != nil {
			newer.Close()
			return line, ok, err
		}
		last := r.part
		r.file.Close()
		r.start(newer, 0)
		if len(last) > 0 { // a line whose writer was killed
			return bytes.Clone(last), true, nil
		}
	}
}

// lineHere returns the next line of the open file.
func (r *Reader) lineHere() (line []byte, ok bool, err error) {
	piece, err := r.in.ReadSlice('\n')
	r.offset += int64(len(piece))
	switch {
	case err == nil || err == bufio.ErrBufferFull:
		if len(r.part) == 0 {
			return bytes.TrimSuffix(piece, []byte("\n")), true, nil
		}
		line = append(r.part, bytes.TrimSuffix(piece, []byte("\n"))...)
		r.part = nil
		return line, true, nil
	case err == io.EOF:
		r.part = append(r.part, piece...)
		r.in.Reset(io.NewSectionReader(r.file, r.offset, 1<<62))
		return nil, false, nil
	}
	return nil, false, err
}

// oldest opens the oldest file that may have lines of the wanted time. It returns false if there is
// no such file.
func (r *Reader) oldest() (bool, error) {
	for i := fileKeep; i >= 0; i-- {
		f, err := os.Open(aside(r.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if info, err := f.Stat(); i > 0 && err == nil && info.ModTime().Before(r.since) {
			f.Close()
			continue
		}
		r.start(f, 0)
		return true, nil
	}
	return false, nil
}

// newer opens the file that follows the open one; nil if there is none. If the open file was
// emptied, it is read from its beginning.
func (r *Reader) newer() (*os.File, error) {
	mine, err := r.file.Stat()
	if err != nil {
		return nil, err
	}
	if mine.Size() < r.offset {
		r.start(r.file, 0)
	}
	at := fileKeep + 1 // not found: the open file is older than all others
	for i := 0; i <= fileKeep; i++ {
		if there, err := os.Stat(aside(r.path, i)); err == nil && os.SameFile(mine, there) {
			at = i
			break
		}
	}
	for i := at - 1; i >= 0; i-- {
		f, err := os.Open(aside(r.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return f, err
	}
	return nil, nil
}

// Tail returns the last lines that a node has written since a time, each cut to a maximal length;
// zero: since ever. It returns nothing if the node has no log.
func Tail(state, node string, since time.Time) []string {
	const most, lines = 1 << 10, 8 // bytes of a line, lines
	Sync(state, node)
	r := NewReader(state, node, since.Truncate(time.Microsecond)) // the precision of the stamps
	defer r.Close()
	if err := r.SkipTo(lines); err != nil {
		return nil
	}
	var last []string
	for {
		e, ok, err := r.Next()
		if err != nil || !ok {
			return last[max(len(last)-lines, 0):]
		}
		if len(e.Line) > most {
			e.Line = e.Line[:most] + "…"
		}
		if e.Line != "" {
			last = append(last, e.Line)
		}
	}
}
