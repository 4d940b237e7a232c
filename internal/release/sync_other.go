//go:build !linux

package release

import (
	"io/fs"
	"path/filepath"
)

// syncAll syncs a directory, with everything below it, to the disk.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		return syncPath(path)
	})
}
