package stack

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// Show returns the stack as a stack file with every default filled in. Parse reads the same stack
// from it. Each key has an explanation where it occurs first. The stack has to come from Parse or
// Default.
func (s Stack) Show() []byte {
	w := &writer{said: map[string]bool{}}
	for i, p := range showKeys(stackKeys, &s) {
		if i > 0 {
			w.out.WriteByte('\n')
		}
		w.pair(p, 0)
	}
	return w.out.Bytes()
}

// writer writes YAML.
type writer struct {
	out  bytes.Buffer
	said map[string]bool // comments written so far
}

const (
	commentWidth = 78 // columns
	flowWidth    = 90 // columns that a list may take to be written on one line
)

func (w *writer) pair(p pair, indent int) {
	margin := strings.Repeat(" ", indent)
	if p.doc != "" && !w.said[p.doc] {
		w.said[p.doc] = true
		for _, line := range wrapped(p.doc, commentWidth-indent-2) {
			fmt.Fprintf(&w.out, "%s# %s\n", margin, line)
		}
	}
	name := scalar(p.key)
	switch v := p.value.(type) {
	case mapping:
		if len(v) == 0 {
			fmt.Fprintf(&w.out, "%s%s: {}\n", margin, name)
			return
		}
		fmt.Fprintf(&w.out, "%s%s:\n", margin, name)
		for _, below := range v {
			w.pair(below, indent+2)
		}
	case []any:
		w.list(margin, name, v, indent)
	default:
		fmt.Fprintf(&w.out, "%s%s: %s\n", margin, name, scalar(v))
	}
}

func (w *writer) list(margin, name string, items []any, indent int) {
	if len(items) > 0 {
		if _, sections := items[0].(mapping); sections {
			fmt.Fprintf(&w.out, "%s%s:\n", margin, name)
			for _, item := range items {
				w.item(item.(mapping), indent+2)
			}
			return
		}
	}
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = scalar(item)
	}
	flow := fmt.Sprintf("%s%s: [%s]\n", margin, name, strings.Join(words, ", "))
	if len(flow) <= flowWidth || len(items) == 0 {
		w.out.WriteString(flow)
		return
	}
	fmt.Fprintf(&w.out, "%s%s:\n", margin, name)
	for _, word := range words {
		fmt.Fprintf(&w.out, "%s  - %s\n", margin, word)
	}
}

// item writes one section of a list, with the dash before its first key. Comments come before the
// dash.
func (w *writer) item(m mapping, indent int) {
	margin := strings.Repeat(" ", indent)
	for _, p := range m {
		if p.doc != "" && !w.said[p.doc] {
			w.said[p.doc] = true
			for _, line := range wrapped(p.key+": "+p.doc, commentWidth-indent-2) {
				fmt.Fprintf(&w.out, "%s# %s\n", margin, line)
			}
		}
	}
	at := w.out.Len()
	for _, p := range m {
		w.pair(p, indent+2)
	}
	if w.out.Len() > at {
		w.out.Bytes()[at+indent] = '-'
	}
}

var (
	plain    = regexp.MustCompile(`^[A-Za-z/._][A-Za-z0-9/._-]*$`)
	address  = regexp.MustCompile(`^[A-Za-z0-9.]*[A-Za-z.][A-Za-z0-9.-]*:[0-9]+$`)
	duration = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(ms|s|m|h)([0-9.]+(ms|s|m))*$`)
	bytesize = regexp.MustCompile(`^[0-9]+[kmg]b$`)
	// Words that other YAML readers do not take for text.
	words = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", ".nan", ".inf"}
)

// scalar returns a value as YAML writes it.
func scalar(v any) string {
	s, ok := v.(string)
	if !ok {
		return fmt.Sprint(v)
	}
	if (plain.MatchString(s) || address.MatchString(s) || duration.MatchString(s) || bytesize.MatchString(s)) &&
		!slices.Contains(words, strings.ToLower(s)) && !token.IsNeedQuoted(s) {
		return s
	}
	return strconv.Quote(s)
}

// wrapped breaks a text into lines of at most width characters.
func wrapped(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
