package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
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
		s := &Supervisor{programs: map[plan.Program]string{"p": c.program}}
		if err := s.explainStart(plan.Process{Program: "p"}, c.dir, kernel); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestACommandInOneWordIsToldToBeAList(t *testing.T) {
	err := checkProgramFile(stack.App{}, "python3 -m http.server", t.TempDir(), os.Getenv("PATH"))
	if want := "[python3, -m, http.server]"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
