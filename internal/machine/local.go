package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"holdfast/internal/logs"
	"holdfast/internal/private"
)

// Local is this machine with one state directory. It is safe for concurrent use.
type Local struct {
	dir     string
	digests fileDigests

	// tasks are the goroutines that hand over the logs of nodes that were just started. They
	// end with life.
	tasks sync.WaitGroup
	life  context.Context
	end   context.CancelFunc
}

// NewLocal returns this machine with a state directory, given by its absolute path.
func NewLocal(dir string) *Local {
	m := &Local{dir: dir}
	m.life, m.end = context.WithCancel(context.Background())
	return m
}

// Close implements Machine.
func (m *Local) Close() error {
	m.end()
	m.tasks.Wait()
	return nil
}

// Path implements Files.
func (m *Local) Path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// at returns the absolute path of a name that comes from a caller, or an error if the name leads
// out of the state directory.
func (m *Local) at(name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is not the name of a file below the state directory", name)
	}
	return filepath.Join(m.dir, name), nil
}

// Write implements Files.
func (m *Local) Write(_ context.Context, f File) error {
	path, err := m.at(f.Name)
	if err != nil {
		return err
	}
	if f.InPlace {
		return known(overwrite(path, f.Content))
	}
	return WriteFile(path, f.Mode, f.Content)
}

// overwrite writes content over the beginning of a file, in place.
func overwrite(path string, content []byte) error {
	f, err := private.Open(path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		_ = f.Close() // the first error matters more
		return err
	}
	return f.Close()
}

// WriteFile replaces a file whole or not at all, even if the power fails meanwhile. Until the
// rename, the content is in a temporary file beside it.
func WriteFile(path string, mode fs.FileMode, content []byte) error {
	// The temporary file must be beside its target, whatever TMPDIR says, because a rename
	// does not work across file systems.
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, content, mode, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("write %s: %w", path, known(err))
	}
	// The rename survives a loss of power only once the directory is synced.
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// SyncDir syncs a directory, so that renames and new files in it survive a loss of power.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Read implements Files.
func (m *Local) Read(_ context.Context, name string) ([]byte, error) {
	path, err := m.at(name)
	if err != nil {
		return nil, err
	}
	return private.Read(path)
}

// MakeDir implements Files.
func (m *Local) MakeDir(_ context.Context, name string) error {
	path, err := m.at(name)
	if err != nil {
		return err
	}
	return known(os.MkdirAll(path, 0o700))
}

// Stat implements Files.
func (m *Local) Stat(_ context.Context, name string) (Info, error) {
	path, err := m.at(name)
	if err != nil {
		return Info{}, err
	}
	itself, err := os.Lstat(path)
	if errors.Is(err, syscall.ENOTDIR) { // a file is in the place of its directory
		err = &knownError{fs.ErrNotExist, err}
	}
	if err != nil {
		return Info{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: info.Size(), Modified: info.ModTime(), Regular: itself.Mode().IsRegular()}, nil
}

// Remove implements Files.
func (m *Local) Remove(_ context.Context, name string) error {
	path, err := m.at(name)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Rename implements Files.
func (m *Local) Rename(_ context.Context, from, to string) error {
	old, err := m.at(from)
	if err != nil {
		return err
	}
	now, err := m.at(to)
	if err != nil {
		return err
	}
	if err := os.Rename(old, now); err != nil {
		return known(err)
	}
	err = SyncDir(filepath.Dir(now))
	if filepath.Dir(old) != filepath.Dir(now) {
		err = errors.Join(err, SyncDir(filepath.Dir(old)))
	}
	return err
}

// Glob implements Files.
func (m *Local) Glob(_ context.Context, pattern string) ([]string, error) {
	if !filepath.IsLocal(pattern) {
		return nil, fmt.Errorf("%q is not a pattern of files below the state directory", pattern)
	}
	// fs.Glob ignores a directory that cannot be read, so that is checked here.
	top, _, _ := strings.Cut(pattern, "/")
	if !strings.ContainsAny(top, `*?[\`) && strings.Contains(pattern, "/") {
		if _, err := os.ReadDir(filepath.Join(m.dir, top)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	// Not filepath.Glob: it would also read the state directory's own path as a pattern.
	return fs.Glob(os.DirFS(m.dir), pattern)
}

// Tail implements Machine.
func (m *Local) Tail(_ context.Context, node string, since time.Time) []string {
	return logs.Tail(m.dir, node, since)
}
