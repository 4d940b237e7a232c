package logs

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query describes which lines of which logs to read.
type Query struct {
	// Name is the name of a node or an application; empty: all.
	Name string
	// Lines is how many of the latest lines of each log to read at first; 0: all.
	Lines int
	// Since leaves out older lines; zero: none.
	Since time.Time
}

// Merged reads several logs of a host, sorted by time. It is not safe for concurrent use.
type Merged struct {
	state   string
	query   Query
	seen    map[string]bool // names of the logs that are read
	sources []*source
}

// source is one log, with its next line.
type source struct {
	reader *Reader
	next   Entry
	has    bool
}

// NewMerged returns a reader of the logs that a query describes. It opens nothing; see Find.
func NewMerged(state string, q Query) *Merged {
	return &Merged{state: state, query: q, seen: map[string]bool{}}
}

// Close closes the logs.
func (m *Merged) Close() {
	for _, s := range m.sources {
		s.reader.Close()
	}
}

// Find begins to read the logs that match the query and are not read yet. The first call starts
// each log where the query wants it; logs found later are read whole. It returns the names of all
// logs that are read.
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

// Peek returns the next line without consuming it. It returns false if there is none yet.
func (m *Merged) Peek() (Entry, bool, error) {
	first, err := m.first()
	if err != nil || first == nil {
		return Entry{}, false, err
	}
	return first.next, true, nil
}

// Next returns the next line, or false if there is none yet.
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

// Wanted reports whether a name selects the log of a node. The name is that of the node. If no node
// has it, it may be that of the node's application or kind.
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
