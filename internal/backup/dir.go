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

// Store is where a stack's backups are kept. Its methods are called one at a time.
type Store interface {
	// TempDir is the directory in which a backup is to be written before Put; empty:
	// any.
	TempDir() string
	// Put stores a finished, synced backup under a name, whole or not at all. It may
	// move the file.
	Put(ctx context.Context, path, name string) error
	// Open reads one that is stored.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// List returns the names of what is stored, in any order.
	List(ctx context.Context) ([]string, error)
	// Remove removes one.
	Remove(ctx context.Context, name string) error
	// Where is a name in full, for a person; it has no secret in it.
	Where(name string) string
}

// Name is the name of a stack's backup of a time. Names sort as their times do.
func Name(stack string, at time.Time) string {
	return stack + at.UTC().Format("-20060102-150405.000Z") + ".tar"
}

var nameTime = regexp.MustCompile(`^-\d{8}-\d{6}\.\d{3}Z\.tar$`)

// named reports whether a name is that of a backup of the stack.
func named(stack, name string) bool {
	rest, found := strings.CutPrefix(name, stack)
	return found && nameTime.MatchString(rest)
}

// Prune removes the oldest backups of a stack so that keep of them stay, and returns
// the names of those that are gone. Only what has the name of a backup of the stack
// counts; other files stay.
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

// Dir keeps backups in a directory.
type Dir string

// TempDir is the directory itself: a rename does not cross file systems.
func (d Dir) TempDir() string { return string(d) }

// Where is the path of a backup.
func (d Dir) Where(name string) string { return filepath.Join(string(d), name) }

// Put renames the file.
func (d Dir) Put(_ context.Context, path, name string) error { return Replace(path, d.Where(name)) }

// Replace moves a synced file into the place of another, or to where none is. After a
// loss of power there is the old one or the new.
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

// Remove removes a file. One that is gone already is no error.
func (d Dir) Remove(_ context.Context, name string) error {
	if err := os.Remove(d.Where(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// partEnd ends the name of a file that is being written.
const partEnd = ".part"

// Temp makes an empty file for a backup that is to be stored as base, for its owner
// alone, in a directory. Until it is closed, RemoveParts leaves it.
func Temp(dir, base string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, "."+base+".*"+partEnd)
		if err != nil {
			return nil, err
		}
		err = lock(f)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return f, nil // also where the file system has no locks: nobody removes it there
		}
		// RemoveParts of somebody else was quicker.
		f.Close()
		os.Remove(f.Name())
	}
}

// RemoveParts removes what killed backups have left of those that are to be stored as
// base. One that is under way has its file locked.
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

// isPart reports whether a name is one that Temp gives.
func isPart(name, base string) bool {
	rest, begins := strings.CutPrefix(name, "."+base+".")
	digits, ends := strings.CutSuffix(rest, partEnd)
	return begins && ends && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// lock locks a file. Its error wraps fs.ErrNotExist where the file has its name no more.
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
