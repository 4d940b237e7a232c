package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// pipe returns the path of a pipe with a stack file, like that of a shell's <(...). What was read
// from it once is gone.
func pipe(t *testing.T, content string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/dev/fd/%d", r.Fd())
}

func globalsFor(file string, stderr io.Writer) *globals {
	g := newGlobals(strings.NewReader(""), stderr, func(name string) string { return map[string]string{"HOME": "/nowhere"}[name] })
	g.file = file
	return g
}

func TestACommandReadsAStackFileOnce(t *testing.T) {
	var stderr strings.Builder
	g := globalsFor(pipe(t, "name: once\nredis: {replicas: 0}\n"), &stderr)
	if _, err := findHost(g, "", false); err != nil {
		t.Fatal(err)
	}
	warned := stderr.String()
	s, _, state, err := locateRunnable(g)
	if err != nil || s.Name != "once" || !strings.HasSuffix(state, "/once") {
		t.Errorf("the second look at the file finds the stack %q in %s, %v", s.Name, state, err)
	}
	if warned == "" || stderr.String() != warned {
		t.Errorf("the first look warned of\n%s\nand both of\n%s", warned, &stderr)
	}

	// The mistakes stay the same, too.
	g = globalsFor(pipe(t, "name: once\nnonsense: 1\n"), io.Discard)
	_, first := findHost(g, "", false)
	if _, _, _, err := locateRunnable(g); err == nil || first == nil || err.Error() != first.Error() {
		t.Errorf("the mistakes of the file are %v, and then %v", first, err)
	}
}

func TestAPipeThatWasReadIsNoStackFile(t *testing.T) {
	if _, _, err := loadStack(globalsFor(pipe(t, ""), io.Discard)); err == nil || !strings.Contains(err.Error(), "nothing to read") {
		t.Errorf("an empty pipe is a stack file: %v", err)
	}
	if _, _, err := loadStack(globalsFor(os.DevNull, io.Discard)); err != nil {
		t.Errorf("the file without anything in it is none: %v", err)
	}
}
