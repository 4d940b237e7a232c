// Package mutants is a list of mutants: versions of Holdfast with one safety rule broken on
// purpose. For each it names what has to detect it, a test or a drill. A test suite that detects
// none of them would prove nothing.
//
// Table is the list, in parts by what is broken (table.go, repeating.go, masters.go). The program
// in run goes through the list ('make mutants'); tests of package test check some of it.
package mutants

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is Holdfast with a broken rule.
type Mutant struct {
	Name string
	// Rule is the broken rule, as a sentence about the right program.
	Rule    string
	Changes []Change
	// Covered says which other rule is broken as well, because with this rule alone the answers
	// would still be right; empty: there is no other.
	Covered string

	// Tests or Fault says what has to detect it. Tests is a package and a regular expression of
	// tests, at least one of which has to fail. Fault is a drill on a stack of its own, which has
	// to find one of the anomalies in Found.
	Tests Tests
	Fault string
	Found []string
	// Tries is the largest number of runs, where chance has a part in the result. 0: one run of
	// tests, or four drills.
	Tries int
}

// Change is one text of a file that is replaced. The file contains Old exactly once.
type Change struct {
	File     string // relative to the root of the tree
	Old, New string
}

// Tests are some tests of a package.
type Tests struct{ Package, Run string }

// drills is the largest number of drills where a mutant does not set Tries. Some mutants do harm
// only when an operation falls into a certain moment, which not every drill hits.
const drills = 4

// Most returns the largest number of runs for a mutant.
func (m Mutant) Most() int {
	switch {
	case m.Tries > 0:
		return m.Tries
	case m.Fault != "":
		return drills
	}
	return 1
}

// Named returns the mutant with that name.
func Named(name string) (Mutant, bool) {
	for _, m := range Table {
		if m.Name == name {
			return m, true
		}
	}
	return Mutant{}, false
}

// Broken returns the changed contents of the files that a mutant changes. Its error names a text
// that the tree does not have exactly once.
func (m Mutant) Broken(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, c := range m.Changes {
		path := filepath.Join(root, filepath.FromSlash(c.File))
		text, read := files[path]
		if !read {
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(c.Old)); n != 1 {
			return nil, fmt.Errorf("mutant %s: %s has %d times the text %q, and it has to be there once; find the rule in the tree as it is now and write its text in the list", m.Name, c.File, n, c.Old)
		}
		files[path] = bytes.Replace(text, []byte(c.Old), []byte(c.New), 1)
	}
	return files, nil
}

// Overlay writes a mutant's files into a directory and returns the path of the file for 'go build
// -overlay', which builds the tree with these files.
func (m Mutant) Overlay(root, dir string) (string, error) {
	files, err := m.Broken(root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, text := range files {
		broken := filepath.Join(dir, fmt.Sprintf("broken-%d%s", len(replace), filepath.Ext(path)))
		if err := os.WriteFile(broken, text, 0o600); err != nil {
			return "", err
		}
		replace[path] = broken
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o600)
}

// ConvictedBy returns in a few words what has to detect a mutant.
func (m Mutant) ConvictedBy() string {
	if m.Fault != "" {
		return "drill `" + m.Fault + "`"
	}
	return "`" + strings.ReplaceAll(m.Tests.Run, "|", "` or `") + "` (" + strings.TrimPrefix(m.Tests.Package, "./internal/") + ")"
}
