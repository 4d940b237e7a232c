package machine

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A named pipe in the place of a file is refused at once.
func TestAPipeIsNoFileToReadFrom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "a.pem")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.pem"), []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, refused := range map[string]bool{pipe: true, dir: false} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			o, err := LookOutside(path, "", []string{".pem"})
			switch {
			case refused && (err == nil || !strings.Contains(err.Error(), pipe+": it is no ordinary file")):
				t.Errorf("%s: %v", path, err)
			case !refused && (err != nil || !slices.Equal(slices.Collect(maps.Keys(o.Files)), []string{"b.pem"})):
				t.Errorf("%s: %+v, %v", path, o, err)
			}
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: somebody waits for the pipe", path)
		}
	}
}
