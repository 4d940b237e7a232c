// Package mutants is a list of programs that are Holdfast with one rule of safety
// broken on purpose, and of what has to convict each: a test, or a drill. A proof
// that convicts none of them proves nothing. The program in run goes through the
// list ('make mutants'); tests of package test take some of it.
package mutants

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is Holdfast with a rule broken.
type Mutant struct {
	Name string
	// Rule is what is broken, as a sentence says it of the right program.
	Rule    string
	Changes []Change
	// Covered says which other rule is broken with it, since that one alone would
	// still give right answers; empty: none is.
	Covered string

	// What convicts it is one of these. Tests is a package and a regular expression
	// of tests, at least one of which has to fail. Fault is a drill on a stack of its
	// own that has to find one of the anomalies in Found.
	Tests Tests
	Fault string
	Found []string
	// Tries is how often it is looked for, where chance has a part in it. 0: once,
	// and a drill up to four times.
	Tries int
}

// Change is one text of a file that is replaced. The text is in the file once.
type Change struct {
	File     string // from the root of the tree
	Old, New string
}

// Tests are some tests of a package.
type Tests struct{ Package, Run string }

// drills is how many drills may be needed where a row does not say it: some mutants
// do harm only when an operation falls into a moment, which not every drill hits.
const drills = 4

// Most returns how often a mutant is looked for at the most.
func (m Mutant) Most() int {
	switch {
	case m.Tries > 0:
		return m.Tries
	case m.Fault != "":
		return drills
	}
	return 1
}

// Named returns the mutant of that name.
func Named(name string) (Mutant, bool) {
	for _, m := range Table {
		if m.Name == name {
			return m, true
		}
	}
	return Mutant{}, false
}

// Broken returns the files of a tree that a mutant changes, as they become. Its
// error says which text is not where the list has it.
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

// Overlay writes a mutant's files into a directory and returns the file for
// 'go build -overlay', which builds the tree with them in their places.
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

// ConvictedBy says in a few words what has to convict a mutant.
func (m Mutant) ConvictedBy() string {
	if m.Fault != "" {
		return "drill `" + m.Fault + "`"
	}
	return "`" + strings.ReplaceAll(m.Tests.Run, "|", "` or `") + "` (" + strings.TrimPrefix(m.Tests.Package, "./internal/") + ")"
}
