package internal

import (
	"bytes"
	"fmt"
	"go/format"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/quicktemplate/parser"
)

// outputTags are the tags that may write something, by the directory of their templates. A
// configuration has its own way of quoting, which {%s x %}, made for HTML, would spoil. In a page
// every text is written by a function that escapes it, or that takes markup, a type that no text of
// a history has. So nothing is written unescaped.
var outputTags = map[string][]string{
	"plan":         {"s=", "d", "dl", "="},
	"export":       {"s=", "d", "="},
	"drill/report": {"d", "dl", "="},
}

var (
	anyTag = regexp.MustCompile(`\{%-?\s*([a-z]*=?[a-z]*)`)
	// silent are the tags that write nothing.
	silent = []string{"func", "endfunc", "import", "if", "elseif", "else", "endif", "for", "endfor", "code"}
)

func templatesIn(t *testing.T) (files []string) {
	t.Helper()
	for dir := range outputTags {
		found, err := filepath.Glob(filepath.Join(dir, "*.qtpl"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s has no templates: %v", dir, err)
		}
		files = append(files, found...)
	}
	return files
}

func TestGeneratedFilesAreWhatTheirTemplatesGive(t *testing.T) {
	for _, file := range templatesIn(t) {
		template, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var code bytes.Buffer
		if err := parser.ParseNoLineComments(&code, bytes.NewReader(template), file, path.Base(filepath.ToSlash(filepath.Dir(file)))); err != nil {
			t.Errorf("internal/%s: %v", file, err)
			continue
		}
		want, err := format.Source(code.Bytes())
		if err != nil {
			t.Fatalf("internal/%s: %v", file, err)
		}
		if got, err := os.ReadFile(file + ".go"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("internal/%s.go is not what its template gives; make it anew by 'make generate' (%v)", file, err)
		}
	}
}

func TestGeneratedFilesHaveTheirTemplates(t *testing.T) {
	made, err := filepath.Glob("*/*.qtpl.go")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("*/*/*.qtpl.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(made, deeper...) {
		if !slices.Contains(templatesIn(t), strings.TrimSuffix(file, ".go")) {
			t.Errorf("internal/%s has no template; remove it, or give its directory a line in outputTags", file)
		}
	}
}

func TestTemplatesWriteNothingUnquotedByMistake(t *testing.T) {
	for _, file := range templatesIn(t) {
		template, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range forbiddenTags(string(template), outputTags[filepath.ToSlash(filepath.Dir(file))]) {
			t.Errorf("internal/%s: %s", file, wrong)
		}
	}
	// The check itself finds what it looks for.
	for text, wrong := range map[string]int{
		"{%s x %}": 1, "{% s= x %}": 1, "{%- v x -%}": 1, "{%=h x() %}": 1, "{%= text(x) %}{% if x %}{% endif -%}": 0, "{%d n %}": 0,
	} {
		if got := forbiddenTags(text, outputTags["drill/report"]); len(got) != wrong {
			t.Errorf("%s: %q, want %d complaints", text, got, wrong)
		}
	}
}

func forbiddenTags(template string, allowed []string) (wrong []string) {
	for _, tag := range anyTag.FindAllStringSubmatchIndex(template, -1) {
		name := template[tag[2]:tag[3]]
		if !slices.Contains(silent, name) && !slices.Contains(allowed, name) {
			line := 1 + strings.Count(template[:tag[0]], "\n")
			wrong = append(wrong, fmt.Sprintf("line %d has the tag {%%%s, and may have those in outputTags", line, name))
		}
	}
	return wrong
}

// Only drawings, the style and the script become part of a report's page without escaping.
func TestOnlyAFewPlacesMakeMarkup(t *testing.T) {
	files, err := filepath.Glob("drill/report/*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if ext := filepath.Ext(file); ext != ".go" && ext != ".qtpl" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, made := range regexp.MustCompile(`\bmarkup\([^)]*\)`).FindAllString(string(text), -1) {
			found = append(found, filepath.Base(file)+" "+made)
		}
	}
	want := []string{"canvas.go markup(c.b.String()", "page.go markup(pageScript)", "page.go markup(pageStyle)"}
	slices.Sort(found)
	if !slices.Equal(found, want) {
		t.Errorf("markup is made of %q, want %q", found, want)
	}
}
