package process

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestWhyAProgramCannotRunIsSaid(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string // a part of the error; empty: it runs
	}{
		{"fine", "#!/bin/sh\nexit 0\n", 0o755, ""},
		{"fine by env", "#!/usr/bin/env sh\nexit 0\n", 0o755, ""},
		{"fine with options", "#! /bin/sh -e\nexit 0\n", 0o755, ""},
		{"crlf", "#!/bin/sh\r\nexit 0\r\n", 0o755, "CRLF"},
		{"crlf by env", "#!/usr/bin/env sh\r\n", 0o755, "CRLF"},
		{"crlf and nothing", "#!\r\n", 0o755, "CRLF"},
		{"no interpreter", "#!/no/such/interpreter\n", 0o755, "/no/such/interpreter does not exist"},
		{"interpreter is a directory", "#!/tmp\n", 0o755, "/tmp is a directory"},
		{"env finds none", "#!/usr/bin/env no-such-program\n", 0o755, "no no-such-program on PATH"},
		{"env -S finds none", "#!/usr/bin/env -S A=b no-such-program -x\n", 0o755, "no no-such-program on PATH"},
		{"nothing after #!", "#!\n", 0o755, "names no interpreter"},
		{"no first line", "echo hello\n", 0o755, "does not name its interpreter"},
		{"byte order mark", "\xef\xbb\xbf#!/bin/sh\n", 0o755, "byte order mark"},
		{"empty", "", 0o755, "empty"},
		{"not executable", "#!/bin/sh\n", 0o644, "is not executable: chmod +x '" + filepath.Join(dir, "not executable") + "'"},
		{"damaged", "\x7fELF", 0o755, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, c.name)
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			err := Runnable(path, "/usr/bin:/bin")
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if exec.Command(path).Run() == nil {
				t.Errorf("it runs, and is said not to: %v", err)
			}
		})
	}
}

func TestWhatIsNoProgramIsSaid(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("gone", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "does not exist",
		dir:                        "is a directory",
		link:                       "a symbolic link to gone, which does not exist",
		"/dev/null":                "not a regular file",
	} {
		if err := Runnable(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestAProgramForAnotherProcessorIsSaid(t *testing.T) {
	if runtime.GOOS != "linux" || foreignFormats() {
		t.Skip("other processors' programs may run here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Runnable(self, ""); err != nil {
		t.Errorf("this program: %v", err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint16(b[18:], 243) // e_machine: RISC-V
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Runnable(other, ""); err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("got %v", err)
	}
}
