package release

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tree makes a directory with these files, given by path and content.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func add(t *testing.T, s Store, source string) string {
	t.Helper()
	digest, err := s.Add(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func newStore(t *testing.T) Store { return At(filepath.Join(t.TempDir(), "releases", "shop")) }

func TestAReleaseHasTheFilesTheirModesAndTheLinks(t *testing.T) {
	t.Parallel()
	source := tree(t, map[string]string{"app.py": "one", "lib/a b\n": "two", ".git/config": "no", "lib/__pycache__/app.cpython-312.pyc": "no"})
	if err := os.Chmod(filepath.Join(source, "app.py"), 0o775); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../app.py", filepath.Join(source, "lib", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(source, "sealed"), 0o500); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	copied := s.Path(add(t, s, source))

	for path, content := range map[string]string{"app.py": "one", "lib/a b\n": "two", "lib/link": "one"} {
		if b, err := os.ReadFile(filepath.Join(copied, path)); err != nil || string(b) != content {
			t.Errorf("%q: %q, %v", path, b, err)
		}
	}
	for path, mode := range map[string]os.FileMode{"app.py": 0o755, "sealed": 0o500, "lib": 0o755} {
		if info, err := os.Stat(filepath.Join(copied, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	for _, path := range []string{".git", "lib/__pycache__"} {
		if _, err := os.Stat(filepath.Join(copied, path)); !os.IsNotExist(err) {
			t.Errorf("%s was copied: %v", path, err)
		}
	}
	if err := s.remove(filepath.Base(copied)); err != nil {
		t.Errorf("remove a release with a directory that is not to be written to: %v", err)
	}
}

func TestTheContentNamesARelease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	source := tree(t, map[string]string{"app.py": "one"})
	first := add(t, s, source)
	if again := add(t, s, tree(t, map[string]string{"app.py": "one"})); again != first {
		t.Errorf("the same files are %s and %s", first, again)
	}
	for what, change := range map[string]func() error{
		"content": func() error { return os.WriteFile(filepath.Join(source, "app.py"), []byte("two"), 0o644) },
		"mode":    func() error { return os.Chmod(filepath.Join(source, "app.py"), 0o755) },
		"name":    func() error { return os.Rename(filepath.Join(source, "app.py"), filepath.Join(source, "b.py")) },
	} {
		before := add(t, s, source)
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if after := add(t, s, source); after == before {
			t.Errorf("with another %s it is %s still", what, after)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(s.Path(first), "app.py")); string(b) != "one" {
		t.Errorf("the first release has %q now", b)
	}
}

// check is Check for a release that is complete.
func check(t *testing.T, s Store, digest string) (changed []string) {
	t.Helper()
	changed, err := s.Check(digest)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// A program may write to its own files. Its nodes keep running, even while the files are
// restored.
func TestAChangedReleaseCanBeRunFromAndItsFilesArePutBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	source := tree(t, map[string]string{"app.py": "one", "data/shop.db": "two", "sealed/c": "three", "d/e": "four"})
	if err := errors.Join(os.Symlink("app.py", filepath.Join(source, "link")), os.Chmod(filepath.Join(source, "sealed"), 0o500)); err != nil {
		t.Fatal(err)
	}
	digest := add(t, s, source)
	in := func(path string) string { return filepath.Join(s.Path(digest), path) }
	before, err := os.Stat(in("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("app.pyc"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if changed := check(t, s, digest); len(changed) > 0 {
		t.Errorf("with a file that the program has put there: %v", changed)
	}

	if err := errors.Join(
		os.WriteFile(in("data/shop.db"), []byte("sold"), 0o644),
		os.Chmod(in("app.py"), 0o600),
		os.Remove(in("link")), os.Symlink("d/e", in("link")),
		os.Chmod(in("sealed"), 0o700), os.WriteFile(in("sealed/c"), nil, 0o644), os.Chmod(in("sealed"), 0o500),
		os.Remove(in("d/e")), os.MkdirAll(in("d/e/f"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	if changed, want := check(t, s, digest), []string{"app.py", "d/e", "data/shop.db", "link", "sealed/c"}; !slices.Equal(changed, want) {
		t.Errorf("changed are %q, want %q", changed, want)
	}

	if again := add(t, s, source); again != digest || len(check(t, s, digest)) > 0 {
		t.Errorf("added again: %s, changed are %q", again, check(t, s, digest))
	}
	after, err := os.Stat(in("data"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("nodes that run from it have lost their directory: %v", err)
	}
	if _, err := os.Stat(in("app.pyc")); err != nil {
		t.Errorf("what the program has put there is gone: %v", err)
	}
	if left, _ := os.ReadDir(s.dir); len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}

func TestAReleaseThatLacksAFileIsDamagedAndMadeWhole(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	source := tree(t, map[string]string{"app.py": "one", "lib/b.py": "two"})
	digest := add(t, s, source)
	for _, path := range []string{"app.py", "lib"} {
		if err := os.RemoveAll(filepath.Join(s.Path(digest), path)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Check(digest); err == nil || !strings.Contains(err.Error(), "it has no "+path+" any more") {
			t.Errorf("without %s: %v", path, err)
		}
		if again := add(t, s, source); again != digest || len(check(t, s, digest)) > 0 {
			t.Errorf("added again: %s", again)
		}
	}
	if err := os.Remove(s.Path(digest) + manifestEnd); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(digest); !errors.Is(err, ErrMissing) {
		t.Errorf("without a manifest: %v", err)
	}
	add(t, s, source)
	check(t, s, digest)
	if _, err := s.Check("0123456789abcdef"); !errors.Is(err, ErrMissing) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestWhatIsNoFileOfTheProgramIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  []string
	}{
		"a link out":             {func(d string) error { return os.Symlink("../../etc", filepath.Join(d, "l")) }, []string{"link l", "../../etc", "out of"}},
		"an absolute link":       {func(d string) error { return os.Symlink(d, filepath.Join(d, "l")) }, []string{"link l", "out of"}},
		"a link through another": {func(d string) error { return linkThrough(d) }, []string{"link out", "out of"}},
		"a named pipe":           {func(d string) error { return syscall.Mkfifo(filepath.Join(d, "p"), 0o600) }, []string{"p is a named pipe", "remove it"}},
		"a socket":               {func(d string) error { return bind(t, filepath.Join(d, "s")) }, []string{"s is a socket"}},
		"nothing":                {os.RemoveAll, []string{"does not exist"}},
	} {
		source := tree(t, map[string]string{"a": ""})
		if err := c.spoil(source); err != nil {
			t.Fatal(err)
		}
		s := newStore(t)
		_, err := s.Add(t.Context(), source)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		if left, _ := os.ReadDir(s.dir); len(left) > 0 {
			t.Errorf("%s leaves %v", name, left)
		}
	}
}

// linkThrough makes a link whose text seems to lead to a place in the directory, but that
// the kernel resolves to a place outside.
func linkThrough(dir string) error {
	return errors.Join(os.Symlink(".", filepath.Join(dir, "here")), os.Symlink("here/..", filepath.Join(dir, "out")))
}

func bind(t *testing.T, path string) error {
	// The path of a socket has to be short.
	short, err := os.MkdirTemp("", "hf")
	if err != nil {
		return err
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unix"})
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	return os.Rename(filepath.Join(short, "s"), path)
}

func TestTheStateDirectoryIsNotCopiedIntoItself(t *testing.T) {
	t.Parallel()
	source := tree(t, map[string]string{"a": ""})
	_, err := At(filepath.Join(source, "state", "releases", "shop")).Add(t.Context(), source)
	if err == nil || !strings.Contains(err.Error(), "into itself") {
		t.Errorf("err = %v", err)
	}
}

func TestOldReleasesGoAndNeededOnesStay(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var all []string
	for _, content := range []string{"a", "b", "c"} {
		all = append(all, add(t, s, tree(t, map[string]string{"app": content})))
	}
	for _, left := range []string{newPrefix + "x", oldPrefix + "x"} {
		if err := os.Mkdir(filepath.Join(s.dir, left), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prune(all[1:]); err != nil {
		t.Fatal(err)
	}
	got, err := s.List()
	if want := slices.Sorted(slices.Values(all[1:])); err != nil || !slices.Equal(got, want) {
		t.Errorf("left are %v, %v, want %v", got, err, want)
	}
	if left, _ := os.ReadDir(s.dir); len(left) != 4 {
		t.Errorf("left are %v", left)
	}
}
