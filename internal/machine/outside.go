package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// OutsideFiles is what was read outside the state directory.
type OutsideFiles struct {
	// Digest is another one whenever the content may have changed.
	Digest string
	// Files are the contents of the files, by their names in the directory; a single file has
	// the name ".". It is nil if Digest is the one that the caller knows.
	Files map[string][]byte
	// Wrong has the files of a directory that could not be read, by their names.
	Wrong map[string]ReadError
}

// ReadError is why a file could not be read.
type ReadError struct {
	Text string
	// Missing is true if the file does not exist (a link leads nowhere), and Forbidden if
	// Holdfast's user may not read it.
	Missing, Forbidden bool
}

func (w ReadError) Error() string { return w.Text }

// Is makes errors.Is recognize fs.ErrNotExist and fs.ErrPermission, also after the error was
// sent from another machine.
func (w ReadError) Is(target error) bool {
	return target == fs.ErrNotExist && w.Missing || target == fs.ErrPermission && w.Forbidden
}

// Limits of what is read outside: the size of one file, the size of all files together, their
// number, and the depth of a directory.
const (
	maxOutside      = 1 << 20  // bytes
	maxOutsideAll   = 16 << 20 // bytes
	maxOutsideFiles = 1000
	outsideDepth    = 2
)

// outsideSettled is how long a file must have been unchanged before its time is trusted. A file
// that is written twice within one step of the clock has two contents with the same time.
const outsideSettled = 2 * time.Second

// LookOutside is Local.LookOutside, for callers that have no state directory.
func LookOutside(path, known string, endings []string) (OutsideFiles, error) {
	o := OutsideFiles{Files: map[string][]byte{}, Wrong: map[string]ReadError{}}
	info, err := os.Stat(path)
	if err != nil {
		return OutsideFiles{}, err
	}

	look := outsideScan{root: path, endings: endings}
	if info.IsDir() {
		err = look.dir(".", outsideDepth)
	} else {
		look.add(".", info)
	}
	if err != nil {
		return OutsideFiles{}, err
	}

	digest, settled := look.digest(time.Now())
	if o.Digest = digest; digest == known && settled {
		return OutsideFiles{Digest: digest}, nil
	}

	for _, f := range look.files {
		content, err := look.read(f)
		switch {
		case err != nil && !info.IsDir():
			return OutsideFiles{}, err
		case err != nil:
			o.Wrong[f.name] = ReadError{err.Error(), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission)}
			continue
		}
		o.Files[f.name] = content
		if look.all += len(content); look.all > maxOutsideAll {
			return OutsideFiles{}, fmt.Errorf("%s: the files have more than %d bytes", path, maxOutsideAll)
		}
	}

	if !settled {
		o.Digest += o.contents()
	}
	if o.Digest == known {
		return OutsideFiles{Digest: known}, nil
	}
	return o, nil
}

// outsideScan is the state of one LookOutside.
type outsideScan struct {
	root    string
	endings []string
	files   []outsideFile
	all     int // bytes read so far
}

type outsideFile struct {
	name string
	info fs.FileInfo
	err  error // why info is nil
}

func (l *outsideScan) add(name string, info fs.FileInfo) {
	l.files = append(l.files, outsideFile{name: name, info: info})
}

// dir adds the files of a directory, and of the directories below it down to depth.
func (l *outsideScan) dir(below string, depth int) error {
	entries, err := os.ReadDir(filepath.Join(l.root, below))
	if err != nil && depth == outsideDepth {
		return err
	} else if err != nil {
		l.files = append(l.files, outsideFile{name: below, err: err})
		return nil
	}

	for _, e := range entries {
		name := filepath.Join(below, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(l.root, name)) // follows links: all files of certbot are links
		fits := slices.Contains(l.endings, filepath.Ext(name))
		switch {
		case err != nil && fits:
			l.files = append(l.files, outsideFile{name: name, err: err})
		case err != nil:
		case info.IsDir() && depth > 1:
			if err := l.dir(name, depth-1); err != nil {
				return err
			}
		case info.Mode().IsRegular() && fits:
			l.add(name, info)
		}
		if len(l.files) > maxOutsideFiles {
			return fmt.Errorf("%s: there are more than %d files", l.root, maxOutsideFiles)
		}
	}
	return nil
}

// digest returns a digest of the times, sizes and inodes of the files. Settled is false if a
// file was written so recently that the digest is no proof; then the contents are compared.
func (l *outsideScan) digest(now time.Time) (digest string, settled bool) {
	h := sha256.New()
	settled = true
	for _, f := range l.files {
		fmt.Fprintf(h, "%q ", f.name)
		if f.err != nil {
			fmt.Fprintf(h, "%q\n", f.err)
			continue
		}
		changed, place := f.info.ModTime(), ""
		if st, ok := f.info.Sys().(*syscall.Stat_t); ok {
			changed, place = changeTime(st), fmt.Sprint(st.Dev, st.Ino, st.Mode, st.Uid, st.Gid)
		}
		if now.Sub(changed) < outsideSettled {
			settled = false
		}
		fmt.Fprintf(h, "%d %d %d %s\n", f.info.Size(), f.info.ModTime().UnixNano(), changed.UnixNano(), place)
	}
	return hex.EncodeToString(h.Sum(nil)), settled
}

// contents returns a digest of what was read.
func (o OutsideFiles) contents() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		fmt.Fprintf(h, "%q %d\n", name, len(o.Files[name]))
		h.Write(o.Files[name])
	}
	for _, name := range slices.Sorted(maps.Keys(o.Wrong)) {
		fmt.Fprintf(h, "%q %q\n", name, o.Wrong[name].Text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (l *outsideScan) read(file outsideFile) ([]byte, error) {
	if file.err != nil {
		return nil, file.err
	}
	path := filepath.Join(l.root, file.name)
	// O_NONBLOCK, because opening a named pipe without a writer would block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is no ordinary file")}
	case info.Size() > maxOutside:
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has %d bytes, and %d are the most", info.Size(), maxOutside)}
	}
	return io.ReadAll(io.LimitReader(f, maxOutside+1))
}

// LookOutside implements Files.
func (m *Local) LookOutside(_ context.Context, path, known string, endings []string) (OutsideFiles, error) {
	return LookOutside(path, known, endings)
}
