package stack

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/yamltree"
)

// path is the place of a key in the stack: "apps/web/health/path". The items of a list are "#0",
// "#1", ….
type path string

func (p path) key(name string) path {
	if p == "" {
		return path(name)
	}
	return p + "/" + path(name)
}

func (p path) item(i int) path { return p.key("#" + strconv.Itoa(i)) }

// last returns the last key of the path.
func (p path) last() string { return string(p[strings.LastIndexByte(string(p), '/')+1:]) }

// String returns the path as messages have it: "apps.web.health.path". It leaves out the items of
// lists, because a message has the line as well.
func (p path) String() string {
	var keys []string
	for _, k := range strings.Split(string(p), "/") {
		if !strings.HasPrefix(k, "#") {
			keys = append(keys, k)
		}
	}
	return strings.Join(keys, ".")
}

// spot is the place of a key and of its value in the file.
type spot struct{ key, value yamltree.Pos }

// reader collects what it finds while it reads a file: the places of the keys, and the mistakes.
type reader struct {
	yamltree.Reader
	spots    map[path]spot
	unknowns map[yamltree.Pos]bool // where an unknown key is
	strange  map[path]bool         // sections that contain an unknown key
	warnings Mistakes
}

func newReader(file string) *reader {
	return &reader{
		Reader: yamltree.Reader{File: file}, spots: map[path]spot{},
		unknowns: map[yamltree.Pos]bool{}, strange: map[path]bool{},
	}
}

// has reports whether the file has a key, whatever its value.
func (r *reader) has(p path) bool {
	_, ok := r.spots[p]
	return ok
}

// positionOf returns the place of a value, or of the nearest key above it that the file has.
func (r *reader) positionOf(p path) yamltree.Pos {
	if s, ok := r.spots[p]; ok {
		return s.value
	}
	for p != "" {
		i := strings.LastIndexByte(string(p), '/')
		p = p[:max(i, 0)]
		if s, ok := r.spots[p]; ok {
			return s.key
		}
	}
	return yamltree.Pos{}
}

// keyPosition returns the place of a key itself.
func (r *reader) keyPosition(p path) yamltree.Pos {
	if s, ok := r.spots[p]; ok {
		return s.key
	}
	return r.positionOf(p)
}

// faulty reports whether a value could not be read. Callers then do not report mistakes that only
// follow from it.
func (r *reader) faulty(p path) bool {
	s, ok := r.spots[p]
	return ok && r.Unreadable(s.value)
}

// warn reports what is allowed but seldom meant.
func (r *reader) warn(at yamltree.Pos, format string, args ...any) {
	r.warnings = append(r.warnings, r.Mistake(at, format, args...))
}

// reportType reports a value of the wrong type, once.
func (r *reader) reportType(p path, n *yamltree.Node, format string, args ...any) {
	if n.Shape == yamltree.Broken {
		return
	}
	if n.Shape == yamltree.Empty {
		r.ReportOnce(n.Pos, "%s has no value: write %s, or remove the key", p, fmt.Sprintf(format, args...))
		return
	}
	r.ReportOnce(n.Pos, "%s is %s: write %s", p, n.Describe(), fmt.Sprintf(format, args...))
}

// readKeys reads a section with known keys. No value at all is an empty section: that is what
// remains when the last key is commented out.
func readKeys[T any](r *reader, p path, n *yamltree.Node, keys []key[T], into *T) {
	if n.Shape == yamltree.Empty {
		return
	}

	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}

	if n.Shape != yamltree.Section {
		what := "keys such as " + yamltree.Listed(names[:min(3, len(names))], "and")
		if p == "" {
			if n.Shape != yamltree.Broken {
				r.ReportOnce(n.Pos, "the file is %s: a stack file has %s", n.Describe(), what)
			}
			return
		}
		r.reportType(p, n, "%s below it", what)
		return
	}
next:
	for _, e := range n.Entries {
		for _, k := range keys {
			if k.name == e.Key {
				below := p.key(k.name)
				r.spots[below] = spot{e.At, e.Value.Pos}
				k.read(r, below, e.Value, into)
				continue next
			}
		}
		r.reportUnknown(p, e, names)
	}
}

// readNames returns the entries of a section whose keys are the user's own names. It returns false
// if the section has no value, or is something else: then nothing changes.
func (r *reader) readNames(p path, n *yamltree.Node, what string) ([]yamltree.Entry, bool) {
	if n.Shape == yamltree.Empty {
		return nil, false
	}
	if n.Shape != yamltree.Section {
		r.reportType(p, n, "%s", what)
		return nil, false
	}
	for _, e := range n.Entries {
		r.spots[p.key(e.Key)] = spot{e.At, e.Value.Pos}
	}
	return n.Entries, true
}

// reportUnknown reports an unknown key, with what was probably meant.
func (r *reader) reportUnknown(p path, e yamltree.Entry, known []string) {
	r.strange[p] = true
	if r.unknowns[e.At] {
		return // an alias leads here, and the mistake was reported already
	}
	r.unknowns[e.At] = true
	in := ""
	if p != "" {
		in = " in " + p.String()
	}
	if near := nearest(e.Key, known); near != "" {
		r.Report(e.At, "unknown key %s%s: did you mean %q?", yamltree.Quoted(e.Key), in, near)
		return
	}
	for _, s := range elsewhere {
		for _, name := range s.keys {
			if name == yamltree.Normal(e.Key) {
				r.Report(e.At, "unknown key %s%s: %q belongs %s", yamltree.Quoted(e.Key), in, name, s.where)
				return
			}
		}
	}
	if len(known) == 0 {
		r.Report(e.At, "unknown key %s%s: it takes no keys, write {}", yamltree.Quoted(e.Key), in)
		return
	}
	r.Report(e.At, "unknown key %s%s: the keys here are %s", yamltree.Quoted(e.Key), in, yamltree.Listed(known, "and"))
}

var decimal = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)$`)

// readNumber reads a whole number from low to high.
func (r *reader) readNumber(p path, n *yamltree.Node, low, high int) (int, bool) {
	example := strconv.Itoa(max(low, 1))
	v, err := strconv.Atoi(n.Text)
	tooLarge := errors.Is(err, strconv.ErrRange) // the parser takes such a number for text
	if n.Shape == yamltree.Text && decimal.MatchString(n.Text) && !tooLarge {
		r.ReportOnce(n.Pos, "%s is %s: write the number without quotes", p, n.Describe())
		return 0, false
	}
	if n.Shape != yamltree.Number && !tooLarge || !decimal.MatchString(n.Text) {
		r.reportType(p, n, "a whole number such as %s", example)
		return 0, false
	}
	if err != nil || v < low || v > high {
		r.ReportOnce(n.Pos, "%s is %s: write %d to %d", p, n.Text, low, high)
		return 0, false
	}
	return v, true
}

// readText reads a text that follows a rule.
func (r *reader) readText(p path, n *yamltree.Node, rule rule) (string, bool) {
	if rule.loose && (n.Shape == yamltree.Number || n.Shape == yamltree.Boolean) {
		n = &yamltree.Node{Pos: n.Pos, Shape: yamltree.Text, Text: n.Text}
	}
	if n.Shape == yamltree.Number && rule.check != nil {
		if complaint := rule.check(n.Text); complaint != "" {
			r.ReportOnce(n.Pos, "%s: %s", p, complaint)
			return "", false
		}
	}
	if n.Shape != yamltree.Text {
		r.reportType(p, n, "%s", rule.what)
		return "", false
	}
	if rule.none && (n.Text == "" || n.Text == "none") {
		return "", true
	}
	if rule.check != nil {
		if complaint := rule.check(n.Text); complaint != "" {
			r.ReportOnce(n.Pos, "%s: %s", p, complaint)
			return "", false
		}
	}
	if rule.pattern != nil && !rule.pattern.MatchString(n.Text) {
		r.ReportOnce(n.Pos, "%s is %s: write %s", p, yamltree.Quoted(n.Text), rule.what)
		return "", false
	}
	return n.Text, true
}

// readItems returns the items of a list. A single value counts as a list of one.
func (r *reader) readItems(p path, n *yamltree.Node, what string) []*yamltree.Node {
	switch n.Shape {
	case yamltree.List:
		for i, item := range n.Items {
			r.spots[p.item(i)] = spot{item.Pos, item.Pos}
		}
		return n.Items
	case yamltree.Text, yamltree.Number:
		r.spots[p.item(0)] = spot{n.Pos, n.Pos}
		return []*yamltree.Node{n}
	}
	r.reportType(p, n, "a list: %s", what)
	return nil
}

// maxDuration is the longest time-out that HAProxy takes: 2^31-1 ms, 24 days.
const maxDuration = math.MaxInt32 * time.Millisecond

// readDuration reads a time with a unit: a whole number of milliseconds, at least low.
func (r *reader) readDuration(p path, n *yamltree.Node, low time.Duration) (time.Duration, bool) {
	if n.Shape == yamltree.Number && decimal.MatchString(n.Text) && n.Text != "0" {
		r.ReportOnce(n.Pos, "%s is %s without a unit: write %ss, or %sms", p, n.Text, n.Text, n.Text)
		return 0, false
	}
	if n.Shape != yamltree.Text && n.Text != "0" {
		r.reportType(p, n, "a time with its unit, such as 500ms, 10s or 1m")
		return 0, false
	}
	d, err := time.ParseDuration(n.Text)
	switch {
	case err != nil:
		r.ReportOnce(n.Pos, "%s is %s: write a time with its unit, such as 500ms, 10s, 1m or 1h", p, yamltree.Quoted(n.Text))
	case d < low:
		r.ReportOnce(n.Pos, "%s is %s: write %s or more", p, n.Text, shortDuration(low))
	case d > maxDuration:
		r.ReportOnce(n.Pos, "%s is %s: write at most 596h, the longest that HAProxy can count", p, n.Text)
	case d%time.Millisecond != 0:
		r.ReportOnce(n.Pos, "%s is %s: write a whole number of milliseconds", p, n.Text)
	default:
		return d, true
	}
	return 0, false
}

// shortDuration returns a duration without the zeros of Duration.String: 1m, not 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

var sizes = regexp.MustCompile(`(?i)^([0-9]+)(b|kb|mb|gb)?$`)

// readSize reads a size in bytes, such as 512mb.
func (r *reader) readSize(p path, n *yamltree.Node, what string) (Bytes, bool) {
	if n.Shape != yamltree.Text && n.Shape != yamltree.Number {
		r.reportType(p, n, "%s", what)
		return 0, false
	}
	m := sizes.FindStringSubmatch(n.Text)
	if m == nil {
		if short := regexp.MustCompile(`(?i)^([0-9]+)\s*([kmg])i?b?$`).FindStringSubmatch(n.Text); short != nil {
			r.ReportOnce(n.Pos, "%s is %s: write %s%sb", p, yamltree.Quoted(n.Text), short[1], strings.ToLower(short[2]))
			return 0, false
		}
		r.reportType(p, n, "%s", what)
		return 0, false
	}
	unit := int64(1)
	switch strings.ToLower(m[2]) {
	case "kb":
		unit = 1 << 10
	case "mb":
		unit = 1 << 20
	case "gb":
		unit = 1 << 30
	}
	v, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || v > math.MaxInt64/unit {
		r.ReportOnce(n.Pos, "%s is %s: no machine has that much; write %s", p, n.Text, what)
		return 0, false
	}
	return Bytes(v * unit), true
}

// Text returns a size in the largest unit that keeps it whole: 512mb.
func (b Bytes) Text() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{1 << 30, "gb"}, {1 << 20, "mb"}, {1 << 10, "kb"}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
