package supervise

import (
	"os"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestACommandInOneWordIsToldToBeAList(t *testing.T) {
	err := checkProgramFile(stack.App{}, "python3 -m http.server", t.TempDir(), os.Getenv("PATH"))
	if want := "[python3, -m, http.server]"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
