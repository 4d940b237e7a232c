package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestWhatADrillCannotDoIsSaidBeforeAnythingStarts(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--own", "--rate", "200000"}, "the rate is 200000"},
		{[]string{"--own", "--clients", "20000"}, "20000 clients"},
		{[]string{"--own", "--keys", "200000"}, "200000 registers"},
		{[]string{"--own", "--out", "file/reports"}, "file"},
	} {
		args := append([]string{"drill", "kill-web", "--state", filepath.Join(t.TempDir(), "state")}, c.args...)
		if r := runIn(t, map[string]string{"file": ""}, "", args...); r.code != exitUsage || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%v: exit %d: %s", c.args, r.code, r.stderr)
		}
	}
}

// The file of a drill's own stack is in another directory.
func TestTheStackOfADrillsOwnFindsWhatTheFileNames(t *testing.T) {
	for _, c := range []struct{ command, dir, program, in string }{
		{"./bin/app", "", "/srv/shop/bin/app", "/srv/shop"},
		{"app", "there", "app", "/srv/shop/there"},
		{"/opt/app", "/opt", "/opt/app", "/opt"},
	} {
		text := "apps:\n  app:\n    command: [" + c.command + ", x]\n"
		if c.dir != "" {
			text += "    dir: " + c.dir + "\n"
		}
		s, _, err := stack.Parse("shop.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		own, _, err := stack.Parse("own.yaml", []byte("name: own\n"+ownText(s, "/srv/shop")))
		if err != nil {
			t.Fatal(err)
		}
		if app := own.Apps["app"]; app.Command[0] != c.program || app.Dir != c.in {
			t.Errorf("%s in %q: %s in %q", c.command, c.dir, app.Command[0], app.Dir)
		}
		if s.Apps["app"].Command[0] != c.command {
			t.Error("the declared stack was changed")
		}
	}
}

func TestADirectoryForReportsIsTakenAwayIfNothingCameOfIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "reports")
	drop, err := prepareOut(dir)
	if err != nil {
		t.Fatal(err)
	}
	drop()
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is left")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if drop, err = prepareOut(dir); err != nil {
		t.Fatal(err)
	}
	drop()
	if _, err := os.Stat(dir); err != nil {
		t.Error("a directory that was there is gone")
	}
}

func TestADirectoryForReportsThatStaysEmptyGoesWithWhatWasMadeForIt(t *testing.T) {
	top := t.TempDir()
	drop, err := prepareOut(filepath.Join(top, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	drop()
	if left, err := os.ReadDir(top); err != nil || len(left) > 0 {
		t.Errorf("%v, left is %v", err, left)
	}
}
