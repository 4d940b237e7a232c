package host

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A directory that cannot be read is not that of a host. The commands that use it report what
// is wrong with it.
func TestADirectoryThatCannotBeLookedIntoIsNoHost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{file, loop, t.TempDir()} {
		if _, err := ReadSelf(state); !errors.Is(err, ErrNotJoined) {
			t.Errorf("%s: %v", state, err)
		}
	}

	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, SelfFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSelf(damaged); err == nil || errors.Is(err, ErrNotJoined) {
		t.Errorf("a host whose file is damaged: %v", err)
	}
}
