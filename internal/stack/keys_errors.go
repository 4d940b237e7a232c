package stack

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast/internal/yamltree"
)

// errorStatuses are the statuses that a balancer sends by itself with a text of ours.
var errorStatuses = []string{"408", "413", "421", "429", "500", "501", "502", "503", "504"}

// longestPage is the longest page, in bytes as EscapePage writes it. Both an answer of HAProxy's
// own with its head, and each argument in its configuration, have to fit into a buffer of 16 KB.
const longestPage = 12_000

// pageSpecials are the characters that are special to HAProxy in an argument of a converter, or in
// a quoted word.
const pageSpecials = `%,()[]{}\"'$#+`

// EscapePage returns a page, or a line of one, in the form that HAProxy's url_dec decodes.
func EscapePage(page string) string {
	var out strings.Builder
	for i := range len(page) {
		if c := page[i]; c < ' ' || c == 0x7f || strings.IndexByte(pageSpecials, c) >= 0 {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

var pageRule = rule{
	what: `a page of HTML, such as "<h1>Back soon</h1>", or its file, such as ./errors/503.html`,
	check: func(s string) string {
		if isPageFile(s) {
			return checkFilePath(s, "a file, such as ./errors/503.html")
		}
		return checkPage(s)
	},
}

// isPageFile reports whether a value is the name of a page's file. A page itself begins with "<".
func isPageFile(s string) bool {
	return !isPage(s) && !strings.Contains(s, "\n") && (strings.Contains(s, "/") || strings.HasSuffix(s, ".html") || strings.HasSuffix(s, ".htm"))
}

func isPage(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), "<") }

// WithPage returns the stack with a page in the place of the file that r refers to. It returns an
// error if content is not a page.
func (s Stack) WithPage(r Reference, content []byte) (Stack, error) {
	page := strings.TrimPrefix(string(content), "\ufeff")
	complaint := checkPage(page)
	switch {
	case !utf8.Valid(content):
		complaint = "the file is not in UTF-8: save it so"
	case !isPage(page):
		complaint = "the file is no page of HTML: that begins with <"
	}
	if complaint != "" {
		return s, errors.New(complaint)
	}
	s.Entry.Errors = maps.Clone(s.Entry.Errors)
	s.Entry.Errors[r.at.last()] = page
	return s, nil
}

// KeepPage returns the stack with the page that a former stack has for the same status, in the
// place of the file that r refers to. kept is false if the former stack has none.
func (s Stack) KeepPage(r Reference, former Stack) (with Stack, kept bool) {
	page := former.Entry.Errors[r.at.last()]
	if !isPage(page) {
		return s, false
	}
	with, err := s.WithPage(r, []byte(page))
	return with, err == nil
}

func checkPage(page string) string {
	switch escaped := EscapePage(page); {
	case !isPage(page):
		return fmt.Sprintf("%s is no HTML: write the page itself, below a | after the status, or its file, such as ./errors/503.html", yamltree.Quoted(page))
	case strings.ContainsRune(page, 0):
		return "a NUL character has no place in a page: remove it"
	case len(escaped) > longestPage:
		return fmt.Sprintf("the page is too large for an answer of HAProxy's own: it has %d bytes, with %%, quotes, commas, brackets and line ends counted three times; write one of at most %d", len(escaped), longestPage)
	}
	return ""
}

// errorsKey is the section of pages by status.
func errorsKey() key[Entry] {
	return key[Entry]{
		name: "errors",
		doc:  "Pages of HTML, by status, or their files, relative to this one, for what a balancer answers by itself, such as 503 where no node is free: for browsers, and for other clients that ask for no JSON where the application is no kv.",
		read: func(r *reader, p path, n *yamltree.Node, t *Entry) {
			named, ok := r.readNames(p, n, `pages by status, such as 503: "<h1>Back soon</h1>"`)
			if !ok {
				return
			}
			t.Errors = map[string]string{}
			for _, e := range named {
				below := p.key(e.Key)
				if !slices.Contains(errorStatuses, e.Key) {
					r.ReportOnce(e.At, "%s: %s is no status that a balancer answers with by itself: those are %s", p, yamltree.Quoted(e.Key), yamltree.Listed(errorStatuses, "and"))
					continue
				}
				if page, ok := r.readText(below, e.Value, pageRule); ok {
					t.Errors[e.Key] = page
				}
			}
		},
		show: func(t *Entry) any {
			if len(t.Errors) == 0 {
				return nil
			}
			out := mapping{}
			for _, status := range sortedKeys(t.Errors) {
				out = append(out, pair{status, "", t.Errors[status]})
			}
			return out
		},
		schema: func() schema {
			return schema{
				"type":                 []any{"object", "null"},
				"propertyNames":        schema{"enum": anys(errorStatuses)},
				"additionalProperties": pageRule.schema(),
			}
		},
	}
}
