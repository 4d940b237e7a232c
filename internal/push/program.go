package push

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"

	"holdfast/internal/quote"
)

// machines has Go's names for the processors of ELF files.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm",
	elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le", elf.EM_LOONGARCH: "loong64",
}

// Own is the system of this program, as Go names it: linux/amd64.
const Own = runtime.GOOS + "/" + runtime.GOARCH

// SystemOf returns the system that the program in a file is built for, as Go names it.
func SystemOf(path string) (string, error) {
	f, err := elf.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return "", err
	case err != nil:
		return "", fmt.Errorf("%s is no program for Linux (ELF)", quote.Text(path))
	}
	defer f.Close()
	processor, known := machines[f.Machine]
	if !known || f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return "", fmt.Errorf("%s is no program for a processor that Holdfast knows (%v)", quote.Text(path), f.Machine)
	}
	return "linux/" + processor, nil
}
