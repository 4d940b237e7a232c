package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/machine"
	"holdfast/internal/quote"
)

// Store is where a stack's backups are kept. Its methods are called one at a time, so an
// implementation need not be safe for concurrent use.
type Store interface {
	// TempDir returns the directory in which a backup has to be written before Put, or
	// "" if it may be any.
	TempDir() string
	// Put stores a finished, synced backup under a name, whole or not at all. It may move
	// the file.
	Put(ctx context.Context, path, name string) error
	// Open opens a stored backup for reading.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// List returns the names of all stored files, in any order.
	List(ctx context.Context) ([]string, error)
	// Remove removes a stored backup.
	Remove(ctx context.Context, name string) error
	// Where returns the full path or URL of a name, for a person. It contains no secret.
	Where(name string) string
}

// Name returns the name of a stack's backup at a time. Names sort in the order of time.
func Name(stack string, at time.Time) string {
	return stack + at.UTC().Format("-20060102-150405.000Z") + ".tar"
}

var nameTime = regexp.MustCompile(`^-\d{8}-\d{6}\.\d{3}Z\.tar$`)

// named reports whether a name is that of a backup of the stack.
func named(stack, name string) bool {
	rest, found := strings.CutPrefix(name, stack)
	return found && nameTime.MatchString(rest)
}

// Prune removes the oldest backups of a stack, so that at most keep of them remain, and
// returns the names of those that it removed. It ignores files that do not have the name
// of a backup of the stack.
func Prune(ctx context.Context, s Store, stack string, keep int) (gone []string, err error) {
	names, err := s.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !named(stack, name) })
	slices.Sort(names)
	for _, name := range names[:max(0, len(names)-keep)] {
		if err := s.Remove(ctx, name); err != nil {
			return gone, fmt.Errorf("remove the old backup %s: %w", quote.Text(s.Where(name)), err)
		}
		gone = append(gone, name)
	}
	return gone, nil
}

// Dir is a Store that keeps backups in a directory.
type Dir string

// TempDir returns the directory itself, because a rename does not work across file systems.
func (d Dir) TempDir() string { return string(d) }

// Where returns the path of a backup.
func (d Dir) Where(name string) string { return filepath.Join(string(d), name) }

// Put renames the file.
func (d Dir) Put(_ context.Context, path, name string) error { return Replace(path, d.Where(name)) }

// Replace renames a synced file, and replaces a file of the new name. After a loss of
// power, the old file or the new one is there.
func Replace(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return machine.SyncDir(filepath.Dir(to))
}

// Open opens a backup.
func (d Dir) Open(_ context.Context, name string) (io.ReadCloser, error) { return Open(d.Where(name)) }

// List returns the names of the ordinary files in the directory.
func (d Dir) List(context.Context) (names []string, err error) {
	entries, err := os.ReadDir(string(d))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Remove removes a file. It is no error if the file does not exist.
func (d Dir) Remove(_ context.Context, name string) error {
	if err := os.Remove(d.Where(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// partEnd is the ending of a file that is being written.
const partEnd = ".part"

// Temp makes an empty file with mode 0600 in a directory, for a backup that is to be
// stored as base. RemoveParts does not remove it before it is closed.
func Temp(dir, base string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, "."+base+".*"+partEnd)
		if err != nil {
			return nil, err
		}
		err = lock(f)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return f, nil // also if the file system has no locks: there, RemoveParts removes nothing
		}
		// RemoveParts of another process was faster.
		f.Close()
		os.Remove(f.Name())
	}
}

// RemoveParts removes the files that killed backups have left of those that were to be
// stored as base. It leaves the file of a backup that is under way, which is locked.
func RemoveParts(dir, base string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !isPart(e.Name(), base) || !e.Type().IsRegular() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if lock(f) == nil {
			os.Remove(f.Name())
		}
		f.Close()
	}
}

// isPart reports whether a name is one that Temp makes for base.
func isPart(name, base string) bool {
	rest, begins := strings.CutPrefix(name, "."+base+".")
	digits, ends := strings.CutSuffix(rest, partEnd)
	return begins && ends && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// lock locks a file. The error wraps unix.EWOULDBLOCK if another process has locked it,
// and fs.ErrNotExist if the file has lost its name meanwhile.
func lock(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	is, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(f.Name())
	if err == nil && !os.SameFile(is, named) {
		err = fs.ErrNotExist
	}
	return err
}
