package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// encodingVersion is the version of the encoding. It changes with every new field.
const encodingVersion = 6

// maxLine is the longest line, in bytes. The read of a large set is one line.
const maxLine = 64 << 20

// header is the first line.
type header struct {
	Version int `json:"holdfast_history"`
	// Count is how many lines follow: one for each operation.
	Count int `json:"operations"`
	History
}

// Encode writes a history as lines of JSON: a header, then each operation. Times are in
// nanoseconds. Bytes in texts that are not UTF-8 are replaced.
func Encode(w io.Writer, h History) error {
	buffered := bufio.NewWriter(w)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(header{Version: encodingVersion, Count: len(h.Operations), History: h}); err != nil {
		return fmt.Errorf("cannot write the history's header: %w", err)
	}
	for i := range h.Operations {
		if err := lines.Encode(&h.Operations[i]); err != nil {
			return fmt.Errorf("cannot write operation %d: %w", i, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("cannot write the history: %w", err)
	}
	return nil
}

// Decode reads what Encode wrote. If the file is cut off, of another version, or contains
// impossible values, the error names the line.
func Decode(r io.Reader) (History, error) {
	d := decoder{lines: bufio.NewReader(r)}
	var head header
	if err := d.header(&head); err != nil {
		return History{}, fmt.Errorf("line %d: %w", max(d.line, 1), err)
	}
	h := head.History
	for len(h.Operations) < head.Count {
		var op Operation
		err := d.next(&op)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the file is cut off: %d of %d operations are there", len(h.Operations), head.Count)
		} else if err == nil {
			err = op.validate()
		}
		if err != nil {
			return History{}, fmt.Errorf("line %d: %w", d.line, err)
		}
		h.Operations = append(h.Operations, op)
	}
	if rest, err := d.read(); !errors.Is(err, io.EOF) || len(rest) > 0 {
		return History{}, fmt.Errorf("line %d: there is more than the %d operations that the header names", d.line, head.Count)
	}
	return h, nil
}

// decoder reads line by line.
type decoder struct {
	lines *bufio.Reader
	line  int // the last one read, from 1
}

// read returns the next line, without its end, or io.EOF after the last one.
func (d *decoder) read() ([]byte, error) {
	d.line++
	var line []byte
	for {
		part, err := d.lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, errors.New("the file is cut off in the midst of this line")
		case err != nil:
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

// next decodes the next line.
func (d *decoder) next(into any) error {
	line, err := d.read()
	if err != nil {
		return err
	}
	return decodeStrictly(line, into)
}

// decodeStrictly decodes one JSON value. A field that into does not have is an error, because a
// field that the judge does not know could change the judgement.
func decodeStrictly(line []byte, into any) error {
	values := json.NewDecoder(bytes.NewReader(line))
	values.DisallowUnknownFields()
	if err := values.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("it is empty")
		}
		return fmt.Errorf("not as it should be: %w", err)
	}
	if _, err := values.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value in a line")
	}
	return nil
}

// header reads the first line. It checks the version before everything else.
func (d *decoder) header(head *header) error {
	line, err := d.read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	}
	if err != nil {
		return err
	}
	var v struct {
		Version *int `json:"holdfast_history"`
	}
	if err := json.Unmarshal(line, &v); err != nil || v.Version == nil {
		return errors.New("this is no history of a drill: its first line has no holdfast_history")
	}
	if *v.Version != encodingVersion {
		return fmt.Errorf("a history of version %d; this program reads version %d", *v.Version, encodingVersion)
	}
	if err := decodeStrictly(line, head); err != nil {
		return err
	}
	if head.Count < 0 {
		return fmt.Errorf("%d operations cannot be", head.Count)
	}
	return head.validate()
}

// validate returns an error if a header has an impossible value.
func (h History) validate() error {
	switch {
	case h.Rate < 0:
		return fmt.Errorf("a rate of %d cannot be", h.Rate)
	case h.Clients < 0:
		return fmt.Errorf("%d clients cannot be", h.Clients)
	case !validTime(h.LoadEnd):
		return fmt.Errorf("load_end %v cannot be", h.LoadEnd)
	}
	for i, f := range h.Faults {
		for _, at := range append([]time.Duration{f.Began, f.Undone, f.Healthy, f.Promise.Pause, f.Promise.PauseElsewhere, f.DetectionDelay}, f.Moments...) {
			if at > longest {
				return fmt.Errorf("fault %d, %q: a time of %v cannot be", i+1, f.Name, at)
			}
		}
		for _, a := range []Allowance{f.Promise.Failed, f.Promise.Unknown} {
			if !slices.Contains([]Allowance{"", None, InFlight, CutOff, Any}, a) {
				return fmt.Errorf("fault %d, %q: an allowance of %q is not known", i+1, f.Name, a)
			}
		}
		if f.Healthy >= 0 && f.Healthy < f.Began {
			return fmt.Errorf("fault %d, %q: healthy again before it began", i+1, f.Name)
		}
	}
	return nil
}

// longest is the longest time in a history.
const longest = 100 * 24 * time.Hour

// validTime reports whether a time can be one of a history.
func validTime(t time.Duration) bool {
	return t >= 0 && t <= longest
}

// verbs are the operations for each kind of key.
var verbs = map[Kind][]Verb{
	Register: {Read, Write, CAS},
	Counter:  {Read, Increment},
	Set:      {Read, Add},
	URL:      {Ask},
}

// validate returns an error if an operation has an impossible value.
func (op Operation) validate() error {
	switch {
	case verbs[op.Kind] == nil:
		return fmt.Errorf("unknown kind %q of key", op.Kind)
	case !slices.Contains(verbs[op.Kind], op.Verb):
		return fmt.Errorf("unknown verb %q of a %s", op.Verb, op.Kind)
	case !slices.Contains([]Outcome{OK, Failed, Unknown}, op.Outcome):
		return fmt.Errorf("unknown outcome %q", op.Outcome)
	case !slices.Contains([]string{"", "master", "replica", "cached"}, op.From):
		return fmt.Errorf("unknown source %q of a read", op.From)
	case op.Key == "":
		return errors.New("an operation without a key")
	case !validTime(op.Due) || !validTime(op.Start) || !validTime(op.End):
		return fmt.Errorf("times due %v, start %v, end %v cannot be", op.Due, op.Start, op.End)
	case op.End < op.Start:
		return fmt.Errorf("end %v is before start %v", op.End, op.Start)
	case !validTime(op.MaxAge):
		return fmt.Errorf("a greatest age of %v cannot be", op.MaxAge)
	case op.Value == "" && slices.Contains([]Verb{Write, CAS, Add}, op.Verb):
		return fmt.Errorf("a %s without a value", op.Verb)
	}
	return nil
}
