package logs

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query is which lines of which logs somebody wants.
type Query struct {
	// Name is a node's or an application's; empty: all.
	Name string
	// Lines is how many of each log come first; 0: all.
	Lines int
	// Since leaves out what is older; zero: nothing.
	Since time.Time
}

// Merged reads several logs of a host in the order of their times. It is for one goroutine.
type Merged struct {
	state   string
	query   Query
	seen    map[string]bool // the logs that are read, by name
	sources []*source
}

// source is one log, and the line of it that comes next.
type source struct {
	reader *Reader
	next   Entry
	has    bool
}

// NewMerged makes a reader of the logs that a query asks for. It opens nothing yet: see Find.
func NewMerged(state string, q Query) *Merged {
	return &Merged{state: state, query: q, seen: map[string]bool{}}
}

// Close closes the logs.
func (m *Merged) Close() {
	for _, s := range m.sources {
		s.reader.Close()
	}
}

// Find begins to read the logs that are asked for and not read yet: those that it finds at
// the first time from where the query wants them, and later ones whole. It returns the
// names of all that are read.
func (m *Merged) Find() (names []string, err error) {
	all, err := Nodes(m.state)
	if err != nil {
		return nil, err
	}
	first := len(m.seen) == 0
	for _, node := range all {
		if m.seen[node] || !Wanted(m.query.Name, node, all) {
			continue
		}
		r := NewReader(m.state, node, m.query.Since)
		m.seen[node] = true
		m.sources = append(m.sources, &source{reader: r})
		if first && m.query.Lines > 0 {
			if err := r.SkipTo(m.query.Lines); err != nil {
				return nil, err
			}
		}
	}
	for name := range m.seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Peek returns the line that comes next, and leaves it there; false: there is none yet.
func (m *Merged) Peek() (Entry, bool, error) {
	first, err := m.first()
	if err != nil || first == nil {
		return Entry{}, false, err
	}
	return first.next, true, nil
}

// Next returns the line that comes next; false: there is none yet.
func (m *Merged) Next() (Entry, bool, error) {
	first, err := m.first()
	if err != nil || first == nil {
		return Entry{}, false, err
	}
	first.has = false
	return first.next, true, nil
}

func (m *Merged) first() (first *source, err error) {
	for _, s := range m.sources {
		if !s.has {
			if s.next, s.has, err = s.reader.Next(); err != nil {
				return nil, err
			}
		}
		if s.has && (first == nil || s.next.Time.Before(first.next.Time)) {
			first = s
		}
	}
	return first, nil
}

// Wanted reports whether the log of a node is asked for by a name: a node has the name, or
// where none has, the node is one of the application, or the kind, of that name.
func Wanted(name, node string, all []string) bool {
	if name == "" || name == node {
		return true
	}
	number, ok := strings.CutPrefix(node, name+"-")
	if !ok || slices.Contains(all, name) {
		return false
	}
	_, err := strconv.ParseUint(number, 10, 32)
	return err == nil
}
