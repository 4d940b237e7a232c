package yamltree

import (
	"fmt"
	"strings"
	"testing"
)

// outline returns a tree on one line, each value with its place.
func outline(n *Node) string {
	if n == nil {
		return "nothing"
	}
	at := fmt.Sprintf("%d:%d ", n.Line, n.Column)
	switch n.Shape {
	case Section:
		var all []string
		for _, e := range n.Entries {
			all = append(all, fmt.Sprintf("%s@%d:%d=%s", e.Key, e.At.Line, e.At.Column, outline(e.Value)))
		}
		return at + "{" + strings.Join(all, ", ") + "}"
	case List:
		var all []string
		for _, item := range n.Items {
			all = append(all, outline(item))
		}
		return at + "[" + strings.Join(all, ", ") + "]"
	case Other:
		return at + "other"
	case Text:
		return at + fmt.Sprintf("%q", n.Text)
	}
	return at + n.Describe()
}

func TestATreeHasThePlacesOfKeysAndValues(t *testing.T) {
	full, plain := Format{Name: "a file", Second: ": one is enough"}, Format{Name: "a file", Second: "; one is enough", SecondAtContent: true, Plain: true}
	for _, c := range []struct {
		name, text string
		format     Format
		want       string
	}{
		{"nothing", "# c\n", full, "nothing"},
		{"values", "a: x\nb: 5\nc: true\nd:\n", full, `1:1 {a@1:1=1:4 "x", b@2:1=2:4 the number 5, c@3:1=3:4 true, d@4:1=4:1 nothing}`},
		{"within each other", "a:\n  - b: x\n  - [y, {z: 1}]\n", full, `1:1 {a@1:1=2:3 [2:5 {b@2:5=2:8 "x"}, 3:5 [3:6 "y", 3:10 {z@3:10=3:13 the number 1}]]}`},
		{"an alias is what it leads to", "a: &x {b: c}\nd: *x\n", full, `1:1 {a@1:1=1:8 {b@1:8=1:11 "c"}, d@2:1=1:8 {b@1:8=1:11 "c"}}`},
		{"a merge key", "a: &x {b: c, d: e}\nf:\n  <<: *x\n  b: g\n", full, `1:1 {a@1:1=1:8 {b@1:8=1:11 "c", d@1:14=1:17 "e"}, f@2:1=3:3 {b@4:3=4:6 "g", d@1:14=1:17 "e"}}`},
		{"a tag", "a: !!map\n  b: c\n", full, `1:1 {a@1:1=2:3 {b@2:3=2:6 "c"}}`},
		{"a mark at the beginning", "\ufeffa: x\n", full, `1:1 {a@1:1=1:4 "x"}`},
		{"plain: aliases and tags are nothing known", "a: &x b\nc: *x\nd: !!str 5\n", plain, `1:1 {a@1:1=1:4 other, c@2:1=2:4 other, d@3:1=3:4 other}`},
		{"plain: a merge key is a key", "a:\n  <<: b\n", plain, `1:1 {a@1:1=2:3 {<<@2:3=2:7 "b"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Reader{File: "f"}
			got := outline(r.ReadTree([]byte(c.text), c.format))
			if got != c.want || len(r.Mistakes) > 0 {
				t.Errorf("the tree is %s, want %s; mistakes: %v", got, c.want, r.Mistakes)
			}
		})
	}
}

func TestASecondDocumentIsReportedWhereTheFormatSays(t *testing.T) {
	for _, c := range []struct {
		text, atHeader, atContent string
	}{
		{"a: b\n---\nc: d\n", "f:2:1: a second YAML document begins", "f:3:1: a second YAML document begins"},
		{"a: b\n...\nc: d\n", "f:3:1: a second YAML document begins", "f:3:1: a second YAML document begins"},
		{"a: b\n---\n", "f:2:1: a second YAML document begins", ""},
		{"# c\n---\na: b\n", "", ""},
	} {
		for at, want := range map[bool]string{false: c.atHeader, true: c.atContent} {
			r := Reader{File: "f"}
			r.ReadTree([]byte(c.text), Format{Name: "a file", SecondAtContent: at})
			if got := r.Mistakes.Error(); got != want {
				t.Errorf("%q: %q, want %q", c.text, got, want)
			}
		}
	}
}

func TestMistakesAreSortedAndSaidOnce(t *testing.T) {
	r := Reader{File: "f"}
	r.Report(Pos{2, 5}, "late")
	r.Report(Pos{2, 1}, "early")
	r.Report(Pos{2, 5}, "late")
	r.Report(Pos{}, "the whole")
	r.ReportOnce(Pos{1, 1}, "one")
	r.ReportOnce(Pos{1, 1}, "another about the same value")
	if got, want := r.Mistakes.Sorted().Error(), "f: the whole\nf:1:1: one\nf:2:1: early\nf:2:5: late"; got != want {
		t.Errorf("the mistakes are\n%s\nwant\n%s", got, want)
	}
	if !r.Unreadable(Pos{1, 1}) || r.Unreadable(Pos{2, 1}) {
		t.Error("it mixes up values that cannot be read with those that cannot be right")
	}
}
