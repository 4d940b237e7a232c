package release

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// repair restores what was changed in a release from a copy of the same files, entry by
// entry, parents first. It keeps the directories themselves, because processes run in them.
// It moves files out of the copy, which cannot be used afterwards.
func repair(release, from string, entries []entry) (err error) {
	var closed []entry // directories whose modes are set at the end
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
			// Files are moved out of it, so it must be writable.
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

// openDir makes sure that a path is a directory to which its owner may write.
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
