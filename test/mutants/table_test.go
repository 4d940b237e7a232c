package mutants

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// When a rule is rewritten, its mutant has to be rewritten as well: a mutant whose text is no
// longer in the tree would prove nothing.
func TestEveryMutantCanBeMade(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range Table {
		if seen[m.Name] {
			t.Errorf("two mutants are called %s", m.Name)
		}
		seen[m.Name] = true
		if m.Rule == "" || len(m.Changes) == 0 || (m.Fault == "") == (m.Tests.Run == "") || (m.Fault == "") != (len(m.Found) == 0) {
			t.Errorf("mutant %s lacks its rule, its changes, or what convicts it, which is either tests or a drill with what it has to find", m.Name)
		}
		if _, err := m.Broken(root); err != nil {
			t.Error(err)
		}
		if m.Fault != "" {
			findText(t, m.Name, filepath.Join(root, "internal/drill"), regexp.QuoteMeta(`name: "`+m.Fault+`"`))
			continue
		}
		for name := range strings.SplitSeq(m.Tests.Run, "|") {
			findText(t, m.Name, filepath.Join(root, m.Tests.Package), `func `+name+`\(`)
		}
	}
}

// findText fails the test unless a file of the directory contains a text.
func findText(t *testing.T, mutant, dir, pattern string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && regexp.MustCompile(pattern).Match(text) {
			return
		}
	}
	t.Errorf("mutant %s: nothing in %s is %s; name the test or the drill that convicts it", mutant, dir, pattern)
}
