package private

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// must ends the test if one of errs is not nil.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestADirectoryThatOthersMayChangeIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		root  bool                          // the case needs root
		make  func(t *testing.T, at string) // makes it in a directory of the test
		words string                        // a part of the error; empty: no error
	}{
		{"private", false, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o700)) }, ""},
		{"others may read", false, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o755)) }, ""},
		{"0777", false, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o700), os.Chmod(at, 0o777)) }, "chmod go-w"},
		{"0702", false, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o700), os.Chmod(at, 0o702)) }, "0702"},
		{"its group may write", false, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o700), os.Chmod(at, 0o770)) }, "0770"},
		{"sticky", false, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o700), os.Chmod(at, 0o777|os.ModeSticky)) }, "0777"},
		{"a link of one's own", false, func(t *testing.T, at string) { must(t, os.Mkdir(at+"x", 0o700), os.Symlink(at+"x", at)) }, ""},
		{"a link to one that others may write to", false, func(t *testing.T, at string) {
			must(t, os.Mkdir(at+"x", 0o700), os.Chmod(at+"x", 0o777), os.Symlink(at+"x", at))
		}, "0777"},
		{"the directory above", false, func(t *testing.T, at string) {
			must(t, os.Chmod(filepath.Dir(at), 0o777), os.Mkdir(at, 0o700))
		}, "in the place of"},
		{"the directory above, sticky", false, func(t *testing.T, at string) {
			must(t, os.Chmod(filepath.Dir(at), 0o777|os.ModeSticky), os.Mkdir(at, 0o700))
		}, ""},
		{"logs in it", false, func(t *testing.T, at string) {
			must(t, os.MkdirAll(at+"/logs", 0o700), os.Chmod(at+"/logs", 0o777))
		}, "/logs"},
		{"a node's directory in it", false, func(t *testing.T, at string) {
			must(t, os.MkdirAll(at+"/nodes/redis-1/data", 0o755), os.Chmod(at+"/nodes/redis-1", 0o777))
		}, "/nodes/redis-1"},
		{"a link to one that others may write to in it", false, func(t *testing.T, at string) {
			must(t, os.MkdirAll(at+"/nodes", 0o755), os.Symlink(os.TempDir(), at+"/nodes/link"))
		}, ""},
		{"somebody else's file below it", true, func(t *testing.T, at string) {
			must(t, os.MkdirAll(at+"/nodes/redis-1", 0o700), os.WriteFile(at+"/nodes/redis-1/redis.conf", nil, 0o600), os.Chown(at+"/nodes/redis-1/redis.conf", nobody, nobody))
		}, "redis.conf"},
		{"somebody else's", true, func(t *testing.T, at string) { must(t, os.Mkdir(at, 0o700), os.Chown(at, nobody, nobody)) }, "belongs to user"},
		{"somebody else's above", true, func(t *testing.T, at string) {
			must(t, os.Mkdir(at, 0o700), os.Chown(filepath.Dir(at), nobody, nobody))
		}, "belongs to user"},
		{"another group may write above", true, func(t *testing.T, at string) {
			must(t, os.Mkdir(at, 0o700), os.Chown(filepath.Dir(at), 0, nobody), os.Chmod(filepath.Dir(at), 0o770))
		}, "in the place of"},
		{"somebody else's link", true, func(t *testing.T, at string) {
			must(t, os.Mkdir(at+"x", 0o700), os.Symlink(at+"x", at), os.Lchown(at, nobody, nobody))
		}, "belongs to user"},
		{"somebody else's link in it", true, func(t *testing.T, at string) {
			must(t, os.Mkdir(at, 0o700), os.Symlink("/etc/passwd", at+"/lock"), os.Lchown(at+"/lock", nobody, nobody))
		}, "/lock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("it takes root")
			}
			at := filepath.Join(t.TempDir(), "state")
			c.make(t, at)
			err := CheckDir(at)
			var refusal *Error
			switch {
			case c.words == "" && err != nil:
				t.Error(err)
			case c.words != "" && (!errors.As(err, &refusal) || !strings.Contains(err.Error(), c.words)):
				t.Errorf("%v has no %q", err, c.words)
			}
		})
	}
}

func TestAFileThatLeadsElsewhereIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	victim, at := filepath.Join(dir, "victim"), filepath.Join(dir, "lock")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	for name, plant := range map[string]func() error{
		"a link":          func() error { return os.Symlink(victim, at) },
		"a dangling link": func() error { return os.Symlink(victim+"2", at) },
		"a second name":   func() error { return os.Link(victim, at) },
		"a pipe":          func() error { return unix.Mkfifo(at, 0o600) },
		"a directory":     func() error { return os.Mkdir(at, 0o700) },
		"somebody else's": func() error {
			if os.Geteuid() != 0 {
				return os.Symlink(victim, at)
			}
			return errors.Join(os.WriteFile(at, nil, 0o666), os.Chown(at, nobody, nobody))
		},
	} {
		must(t, plant())
		for _, flags := range []int{os.O_CREATE | os.O_RDWR, os.O_CREATE | os.O_WRONLY | os.O_APPEND, os.O_RDONLY} {
			if f, err := Open(at, flags); err == nil {
				t.Errorf("%s was opened", name)
				f.Close()
			}
		}
		must(t, os.Remove(at))
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the other file has %q", b)
	}
	if _, err := os.Stat(victim + "2"); err == nil {
		t.Error("a file was made behind the link")
	}
	f, err := Open(at, os.O_CREATE|os.O_RDWR)
	must(t, err)
	defer f.Close()
	if info, _ := f.Stat(); info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has mode %v", info.Mode())
	}
}

func TestAFileThatOthersMayWriteToIsToldOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holdfast.yaml")
	must(t, os.WriteFile(path, nil, 0o644))
	if w := Warning(path); w != "" {
		t.Error(w)
	}
	must(t, os.Chmod(path, 0o666))
	if w := Warning(path); !strings.Contains(w, "every user may write to "+path) {
		t.Error(w)
	}
}

func TestADirectoryThatIsTheContainersAloneMayHaveAnyMode(t *testing.T) {
	volume := t.TempDir()
	state := filepath.Join(volume, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	if CheckDir(state) == nil {
		t.Fatal("everybody may write to the directory above")
	}
	Alone(volume)
	defer Alone("")
	if err := CheckDir(state); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(state, 0o777); err != nil {
		t.Fatal(err)
	}
	if CheckDir(state) == nil {
		t.Error("the state directory itself is everybody's")
	}
}
