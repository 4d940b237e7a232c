// Package private makes sure that nobody else can change the files and directories
// of Holdfast: another user who could would control what Holdfast runs, ends and
// writes to. They must belong to the user that this process runs as, or to root, which
// may do everything anyway. CheckDir checks a directory; Open and Read check a file.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Error tells what is wrong with a file or directory, and what to do about it.
type Error struct{ words string }

func (e *Error) Error() string { return e.words }

func wrong(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// writable is the mode bits by which the group and others may write.
const writable = 0o022

// CheckDir returns nil if no other user can change a directory, replace it by another
// one, or redirect its path through a link. Otherwise the error is an *Error. The
// directory must exist.
func CheckDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for _, path := range []string{dir, real} {
		if err := checkWay(path); err != nil {
			return err
		}
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&writable != 0 {
		return wrong("other users may write to the directory %s (mode %04o) and could change what runs: make it yours alone with chmod go-w %s, see that nothing of theirs is in it, or choose another with --state",
			dir, info.Mode().Perm(), dir)
	}
	return checkEntries(real)
}

// alone is the directory that was passed to Alone, if any.
var alone atomic.Value

// Alone declares that no other user can reach a directory, whatever its mode is, because it is
// a volume of this process's own container. The directories above it then belong to the
// container as well, and are not checked.
func Alone(dir string) { alone.Store(filepath.Clean(dir)) }

// checkWay checks each directory on the path to a directory.
func checkWay(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		if at == alone.Load() && at != path {
			return nil
		}
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		owner, group := owners(info)
		switch {
		case owner != 0 && owner != os.Geteuid():
			return wrong("%s belongs to user %d, who could change what is in or behind it, and you are user %d: choose another directory with --state", at, owner, os.Geteuid())
		case at == path || info.Mode()&fs.ModeSymlink != 0 || info.Mode()&fs.ModeSticky != 0:
		case info.Mode().Perm()&0o002 != 0 || info.Mode().Perm()&0o020 != 0 && group != 0 && group != os.Getegid():
			return wrong("other users may write to the directory %s (mode %04o) and could put another in the place of %s: take that right from them with chmod go-w %s, or choose another place with --state",
				at, info.Mode().Perm(), path, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// checkEntries returns an error if something below a directory belongs to another
// user, who may have left it there earlier, or is a directory to which others may
// write. It follows no links.
func checkEntries(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil && path != dir {
			info, err = e.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has just been removed
			return nil
		case err != nil || path == dir:
			return err
		}
		if owner, _ := owners(info); owner != 0 && owner != os.Geteuid() {
			return wrong("%s belongs to user %d: remove it, or choose another directory with --state", path, owner)
		}
		if info.IsDir() && info.Mode().Perm()&writable != 0 && info.Mode()&fs.ModeSticky == 0 {
			return wrong("other users may write to the directory %s (mode %04o): make it yours alone with chmod go-w %s", path, info.Mode().Perm(), path)
		}
		return nil
	})
}

// Open opens a file like os.OpenFile with mode 0600. It follows no link. It returns an
// *Error if the file is not an ordinary one, belongs to another user, or has a second
// name (hard link), because writing to it would change another file.
func Open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, wrong("%s is a link, and what is written there would go elsewhere: remove it", path)
	}

	if err != nil {
		return nil, err
	}

	info, err := f.Stat()
	if err == nil {
		st, _ := info.Sys().(*syscall.Stat_t)
		switch {
		case !info.Mode().IsRegular():
			err = wrong("%s is in the way and is no ordinary file: remove it", path)
		case st != nil && int(st.Uid) != os.Geteuid():
			err = wrong("%s belongs to user %d and you are user %d: remove it", path, st.Uid, os.Geteuid())
		case st != nil && st.Nlink > 1:
			err = wrong("%s is another name of a file that stands elsewhere, too: remove it", path)
		}
	}

	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Read reads a whole file, which it opens with Open.
func Read(path string) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Warning returns which other users may write to a file, as a text, or "" if none may.
// It is for files that determine what runs, or who may do what.
func Warning(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	var who []string
	owner, group := owners(info)
	if owner != 0 && owner != os.Geteuid() {
		who = append(who, fmt.Sprintf("user %d, who owns it,", owner))
	}
	if info.Mode().Perm()&0o020 != 0 && group != 0 && group != os.Getegid() {
		who = append(who, fmt.Sprintf("group %d", group))
	}
	if info.Mode().Perm()&0o002 != 0 {
		who = append(who, "every user")
	}
	if len(who) == 0 {
		return ""
	}
	return fmt.Sprintf("%s may write to %s", strings.Join(who, " and "), path)
}

func owners(info fs.FileInfo) (user, group int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return os.Geteuid(), os.Getegid()
	}
	return int(st.Uid), int(st.Gid)
}
