package process

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatTheCallerHadOpenIsNotHandedOn(t *testing.T) {
	for name, mark := range map[string]func(int) error{"all at once": closeOnExec, "one by one": closeEachOnExec} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			inherited, err := unix.Dup(int(f.Fd())) // without close-on-exec, like inherited files
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(inherited)

			if err := mark(3); err != nil {
				t.Fatal(err)
			}

			if flags, err := unix.FcntlInt(uintptr(inherited), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("flags of the caller's descriptor: %#x, %v", flags, err)
			}
			if flags, err := unix.FcntlInt(2, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
				t.Errorf("flags of standard error: %#x, %v", flags, err)
			}
		})
	}
}
