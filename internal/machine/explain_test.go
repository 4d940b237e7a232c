package machine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStartThatFailsIsExplained(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "server")
	if err := os.WriteFile(script, []byte("#!/bin/sh\r\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	kernel := errors.New("no such file or directory")
	for _, c := range []struct{ name, program, dir, want string }{
		{"a script from Windows", script, dir, "CRLF"},
		{"a program that is gone", filepath.Join(dir, "gone"), dir, "gone does not exist"},
		{"a directory that is gone", "/bin/sh", filepath.Join(dir, "away"), "away does not exist"},
		{"something else", "/bin/sh", dir, kernel.Error()},
	} {
		if err := explainStart(Spec{Program: c.program}, c.dir, kernel); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
