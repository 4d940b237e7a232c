package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

// A stack starts and changes even if a program has written to its own files.
func TestOnlyAReleaseThatLacksAFileIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := oneNode(t, "true")
	source := t.TempDir()
	for name, mode := range map[string]os.FileMode{"run": 0o700, "shop.db": 0o600} {
		if err := os.WriteFile(filepath.Join(source, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := s.store("shop").Add(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	of := stack.Stack{Apps: map[string]stack.App{"shop": {Command: []string{"./run"}, Release: ".", Digest: digest}}}
	checked := func() error { return s.checkReleases(of, func(string) string { return "do something" }) }
	db := filepath.Join(s.store("shop").Path(digest), "shop.db")
	if err := os.WriteFile(db, []byte("sold"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checked(); err != nil {
		t.Errorf("with a file that the program has written to: %v", err)
	}
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	if err := checked(); err == nil || !strings.Contains(err.Error(), "shop.db") || !strings.Contains(err.Error(), "do something") {
		t.Errorf("without a file of it: %v", err)
	}
}
