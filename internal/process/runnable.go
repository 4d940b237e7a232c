package process

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/quote"
)

// Runnable returns why a file cannot be started as a program, or nil if nothing is
// wrong with it. It explains more than the kernel, which returns "no such file" also
// if a script's interpreter is missing. SearchPath is the PATH that the program would
// have, on which env(1) looks for an interpreter.
func Runnable(path, searchPath string) error {
	if err := executable(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil // a program may be executable and not readable
	}
	defer f.Close()
	head := make([]byte, 256) // as much as the kernel reads (BINPRM_BUF_SIZE)
	n, _ := bufio.NewReader(f).Read(head)
	head = head[:n]

	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		return checkInterpreter(path, string(line), searchPath)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return checkELF(path, f)
	case n == 0:
		return fmt.Errorf("%s is an empty file", quote.Shell(path))
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return fmt.Errorf("%s begins with a byte order mark, so that its #! is not seen: remove the mark (sed -i '1s/^\\xef\\xbb\\xbf//' %[1]s)", quote.Shell(path))
	case bytes.IndexByte(head, 0) < 0 && !foreignFormats():
		return fmt.Errorf("%s is a script that does not name its interpreter: begin it with a line such as #!/bin/sh", quote.Shell(path))
	}
	return nil
}

// executable returns why a path is not a file that this user may execute, or nil.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if target, err := os.Readlink(path); err == nil {
			return fmt.Errorf("%s is a symbolic link to %s, which does not exist", quote.Shell(path), quote.Shell(target))
		}
		return fmt.Errorf("%s does not exist", quote.Shell(path))
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory, not a program", quote.Shell(path))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", quote.Shell(path))
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable: chmod +x %[1]s", quote.Shell(path))
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return fmt.Errorf("%s may not be executed by this user: %w", quote.Shell(path), err)
	}
	return nil
}

// Enterable returns why a path is not a directory that this user can enter, or nil.
func Enterable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", quote.Shell(path))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", quote.Shell(path))
	}
	if _, err := os.Stat(filepath.Join(path, ".")); err != nil {
		return fmt.Errorf("%s cannot be entered by this user: %w", quote.Shell(path), errors.Unwrap(err))
	}
	return nil
}

// checkInterpreter returns why the first line of a script names no usable interpreter,
// or nil.
func checkInterpreter(path, line, searchPath string) error {
	if strings.HasSuffix(line, "\r") {
		return fmt.Errorf("%s has lines that end as on Windows (CRLF), so that #! asks for %q: convert it (sed -i 's/\\r$//' %[1]s)", quote.Shell(path), line)
	}

	words := strings.Fields(line)
	if len(words) == 0 {
		return fmt.Errorf("%s names no interpreter after #!: begin it with a line such as #!/bin/sh", quote.Shell(path))
	}
	if err := executable(words[0]); err != nil {
		return fmt.Errorf("%s names an interpreter that cannot run (#!%s): %w", quote.Shell(path), quote.Text(line), err)
	}

	if filepath.Base(words[0]) != "env" {
		return nil
	}

	// The interpreter is the first word after env that is no option and no assignment.
	// (Several words are possible with env -S, which splits its argument.)
	name := ""
	for _, w := range words[1:] {
		if !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") {
			name = w
			break
		}
	}

	if name == "" || strings.Contains(name, "/") || onPath(name, searchPath) {
		return nil
	}
	return fmt.Errorf("%s is run by %s (#!%s), and there is no %[2]s on PATH: install it, or name another interpreter", quote.Shell(path), quote.Shell(name), quote.Text(strings.TrimSpace(line)))
}

func onPath(name, searchPath string) bool {
	for _, dir := range filepath.SplitList(searchPath) {
		if executable(filepath.Join(dir, name)) == nil {
			return true
		}
	}
	return false
}

// machines has Go's names for the processors of ELF files.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm",
	elf.EM_RISCV: "riscv64", elf.EM_PPC64: "ppc64", elf.EM_S390: "s390x",
}

// checkELF returns why a binary does not run on this machine, or nil.
func checkELF(path string, f *os.File) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%s is a program for Linux, and this is %s", quote.Shell(path), runtime.GOOS)
	}
	b, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s is a damaged program: %w", quote.Shell(path), err)
	}

	// A 64-bit processor may also run programs of its 32-bit relative, and with a
	// registered emulator those of any other.
	arch, known := machines[b.Machine]
	akin := map[string]string{"386": "amd64", "arm": "arm64"}[arch] == runtime.GOARCH
	if known && arch != runtime.GOARCH && !akin && !foreignFormats() {
		return fmt.Errorf("%s is a program for %s, and this machine is %s: build it for %[3]s", quote.Shell(path), arch, runtime.GOARCH)
	}

	for _, p := range b.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(name, 0); err != nil {
			return nil
		}
		loader := strings.TrimRight(string(name), "\x00")
		if _, err := os.Stat(loader); err != nil && !akin && !foreignFormats() {
			return fmt.Errorf("%s needs the dynamic loader %s, which does not exist: it was built for another system (musl or glibc, say)", quote.Shell(path), quote.Shell(loader))
		}
	}
	return nil
}

// foreignFormats reports whether further formats of programs were registered with the
// kernel, such as those of other processors (binfmt_misc).
func foreignFormats() bool {
	entries, _ := os.ReadDir("/proc/sys/fs/binfmt_misc")
	for _, e := range entries {
		if e.Name() != "register" && e.Name() != "status" {
			return true
		}
	}
	return false
}
