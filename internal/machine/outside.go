package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Outside is what was read outside of the state directory.
type Outside struct {
	// Digest tells one content from another.
	Digest string
	// Files are by their names in the directory; of a file alone, the name is ".". They are
	// nil where Digest is the one that the caller knows.
	Files map[string][]byte
}

// Limits of what is read outside: that of a file, of all files together, of how many there
// are, and of how deep a directory is read.
const (
	maxOutside      = 1 << 20  // bytes
	maxOutsideAll   = 16 << 20 // bytes
	maxOutsideFiles = 1000
	outsideDepth    = 2
)

// LookOutside is Local.LookOutside on this machine, for somebody without a state directory.
func LookOutside(path, known string, endings []string) (Outside, error) {
	o := Outside{Files: map[string][]byte{}}
	info, err := os.Stat(path)
	if err != nil {
		return Outside{}, err
	}
	if info.IsDir() {
		err = o.readDir(path, ".", endings, outsideDepth)
	} else {
		err = o.readFile(path, ".")
	}
	if err != nil {
		return Outside{}, err
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		fmt.Fprintf(h, "%q %d\n", name, len(o.Files[name]))
		h.Write(o.Files[name])
	}
	if o.Digest = hex.EncodeToString(h.Sum(nil)); o.Digest == known {
		o.Files = nil
	}
	return o, nil
}

func (o *Outside) readDir(root, below string, endings []string, depth int) error {
	entries, err := os.ReadDir(filepath.Join(root, below))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(below, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(root, name)) // of certbot's, all are links
		switch {
		case err != nil:
			return err
		case info.IsDir() && depth > 1:
			err = o.readDir(root, name, endings, depth-1)
		case info.Mode().IsRegular() && slices.Contains(endings, filepath.Ext(name)):
			err = o.readFile(filepath.Join(root, name), name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Outside) readFile(path, name string) error {
	if len(o.Files) >= maxOutsideFiles {
		return fmt.Errorf("%s: there are more than %d files", path, maxOutsideFiles)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is no ordinary file")}
	case info.Size() > maxOutside:
		return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has %d bytes, and %d are the most", info.Size(), maxOutside)}
	}
	content, err := io.ReadAll(io.LimitReader(f, maxOutside+1))
	if err != nil {
		return err
	}
	o.Files[name] = content
	all := 0
	for _, c := range o.Files {
		all += len(c)
	}
	if all > maxOutsideAll {
		return fmt.Errorf("%s: the files beside it have more than %d bytes", path, maxOutsideAll)
	}
	return nil
}

// LookOutside implements Files.
func (m *Local) LookOutside(_ context.Context, path, known string, endings []string) (Outside, error) {
	return LookOutside(path, known, endings)
}
