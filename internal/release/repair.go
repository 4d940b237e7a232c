package release

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// repair replaces what a release has otherwise than a copy of the same files, entry by
// entry, parents first. The directories stay the same ones: processes run in them. The
// copy is used up.
func repair(release, from string, entries []entry) (err error) {
	var closed []entry // directories, to get their modes
	defer func() {
		for i := len(closed) - 1; i >= 0; i-- {
			err = errors.Join(err, os.Chmod(filepath.Join(release, closed[i].path), closed[i].mode))
		}
		err = errors.Join(err, syncAll(release))
	}()
	for _, e := range entries {
		to := filepath.Join(release, e.path)
		if e.isDir() {
			closed = append(closed, e)
			if err := openDir(to); err != nil {
				return err
			}
			// A file is moved out of it.
			if err := os.Chmod(filepath.Join(from, e.path), 0o700); err != nil {
				return err
			}
			continue
		}
		if is, err := describe(release, e.path); err == nil && is == e {
			continue
		} else if err == nil && is.isDir() {
			if err := removeAll(to); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(from, e.path), to); err != nil {
			return err
		}
	}
	return nil
}

// openDir makes a path a directory to which its owner may write.
func openDir(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.IsDir() {
		return os.Chmod(path, info.Mode().Perm()|0o700)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	return os.Mkdir(path, 0o700)
}
