package test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAStateDirectoryThatOthersMayChangeIsRefused(t *testing.T) {
	beside(t, oneStack)
	for _, c := range []struct {
		name  string
		plant func(s *instance, victim string) error
		words string
	}{
		{"0777", func(s *instance, _ string) error { return os.Chmod(s.state, 0o777) }, "chmod go-w"},
		{"its group may write", func(s *instance, _ string) error { return os.Chmod(s.state, 0o770) }, "chmod go-w"},
		{"the directory above", func(s *instance, _ string) error { return os.Chmod(s.dir, 0o777) }, "in the place of"},
		{"the lock is a link", func(s *instance, victim string) error { return os.Symlink(victim, filepath.Join(s.state, "lock")) }, "lock is a link"},
		{"the lock has a second name", func(s *instance, victim string) error { return os.Link(victim, filepath.Join(s.state, "lock")) }, "another name"},
		{"what is kept is a link", func(s *instance, victim string) error {
			return os.Symlink(victim, filepath.Join(s.state, "stack.json"))
		}, "is a link"},
		{"a drill's journal is a link", func(s *instance, victim string) error {
			return os.Symlink(victim, filepath.Join(s.state, "drill-undo.json"))
		}, "is a link"},
	} {
		s := newInstance(t, minimal(t))
		victim := filepath.Join(s.dir, "victim")
		for _, err := range []error{os.WriteFile(victim, []byte("precious"), 0o600), os.Mkdir(s.state, 0o700), c.plant(s, victim)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Lstat(filepath.Join(s.state, "drill-undo.json")); err == nil {
			requireWords(t, s.fails(2, "drill", "undo"), c.words)
		} else {
			s.requireUpRefused(2, c.words)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
			t.Errorf("%s: the other file has %q, %v", c.name, b, err)
		}
		for _, name := range []string{"lock", "stack.json", "drill-undo.json"} {
			_ = os.Remove(filepath.Join(s.state, name))
		}
		s.requireNothingRuns()
	}
}
