package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/quote"
)

// entry is one file, directory or link of a release.
type entry struct {
	path string // relative to the release; "." is the release itself
	mode fs.FileMode
	// sum is the SHA-256 of a file's content, in hexadecimal. It is empty for a directory or
	// link.
	sum string
	// leads is the target of a link.
	leads string
}

// isDir reports whether the entry is a directory.
func (e entry) isDir() bool { return e.sum == "" && e.leads == "" }

// notCopied are names of directories that are left out. Those of version control contain all
// versions. In __pycache__ Python keeps compiled files, and replaces those that are older than
// their source, even in a release that nodes run from.
var notCopied = map[string]bool{".git": true, ".hg": true, ".svn": true, "__pycache__": true}

// keptMode returns the mode of a copy: that of its source, without the bits that would let
// other users change it or act as its owner.
func keptMode(mode fs.FileMode) fs.FileMode { return mode.Perm() &^ 0o022 }

// copier copies one directory.
type copier struct {
	ctx      context.Context
	from, to string
}

// walk calls what for everything below from that has to be copied, with its path relative to
// from. Parents come first, and the rest is in the order of names.
func walk(ctx context.Context, from string, what func(path string, e fs.DirEntry) error) error {
	return filepath.WalkDir(from, func(full string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e.IsDir() && full != from && notCopied[e.Name()] {
			return fs.SkipDir
		}
		path, err := filepath.Rel(from, full)
		if err != nil {
			return err
		}
		return what(path, e)
	})
}

// sizeOf returns how many bytes the files of a directory have.
func sizeOf(ctx context.Context, dir string) (size int64, err error) {
	err = walk(ctx, dir, func(_ string, e fs.DirEntry) error {
		info, err := e.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	return size, err
}

// copyAll copies everything, and returns the entries of the copy.
func (c copier) copyAll() (entries []entry, err error) {
	var dirs []entry
	err = walk(c.ctx, c.from, func(path string, e fs.DirEntry) error {
		info, err := e.Info()
		if err != nil {
			return err
		}
		made := entry{path: path, mode: keptMode(info.Mode())}
		switch mode := info.Mode(); {
		case mode.IsDir():
			dirs = append(dirs, made)
			err = os.MkdirAll(filepath.Join(c.to, path), 0o700)
		case mode.IsRegular():
			made.sum, err = c.copyFile(path, info)
		case mode&fs.ModeSymlink != 0:
			made.mode = 0 // a link has no mode of its own
			made.leads, err = c.copyLink(path)
		default:
			err = fmt.Errorf("%s is %s, which cannot be a part of a release: remove it, or have it made elsewhere", quote.Shell(path), kindOf(mode))
		}
		entries = append(entries, made)
		return err
	})

	// The modes of directories are set last, because one may forbid writing into it.
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		err = os.Chmod(filepath.Join(c.to, dirs[i].path), dirs[i].mode)
	}
	return entries, err
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	}
	return "a device"
}

// copyFile copies one file. It returns an error if the file changes meanwhile, because the
// copy could then be a mixture of two versions.
func (c copier) copyFile(path string, before fs.FileInfo) (sum string, err error) {
	in, err := os.OpenFile(filepath.Join(c.from, path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer in.Close()

	out, err := os.OpenFile(filepath.Join(c.to, path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}

	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err == nil {
		err = out.Chmod(keptMode(before.Mode()))
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", err
	}

	// The time is kept because web servers send it to clients.
	if err := os.Chtimes(out.Name(), before.ModTime(), before.ModTime()); err != nil {
		return "", err
	}

	after, err := in.Stat()
	if err != nil {
		return "", err
	}
	if !os.SameFile(before, after) || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) {
		return "", fmt.Errorf("%s changed while it was copied: try again when nobody writes there", quote.Shell(path))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyLink copies a symbolic link, which must lead to somewhere inside the directory.
func (c copier) copyLink(path string) (leads string, err error) {
	full := filepath.Join(c.from, path)
	if leads, err = os.Readlink(full); err != nil {
		return "", err
	}
	inside := !filepath.IsAbs(leads) && isBelow(c.from, filepath.Join(filepath.Dir(full), leads))
	// If its path goes through other links, the kernel may resolve it to another place.
	if real, err := filepath.EvalSymlinks(full); err == nil {
		inside = inside && isBelow(c.from, real)
	}
	if !inside {
		return "", fmt.Errorf("the link %s leads out of the directory, to %s: put what it leads to into the directory, or remove it", quote.Shell(path), quote.Shell(leads))
	}
	return leads, os.Symlink(leads, filepath.Join(c.to, path))
}

// isBelow reports whether a path is a directory or something in it.
func isBelow(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// describe returns what a release has at a path, as an entry.
func describe(root, path string) (entry, error) {
	full := filepath.Join(root, path)
	info, err := os.Lstat(full)
	if err != nil {
		return entry{}, err
	}
	is := entry{path: path, mode: info.Mode().Perm()}
	switch {
	case info.Mode().IsRegular():
		is.sum, err = sumOf(full)
	case info.Mode()&fs.ModeSymlink != 0:
		is.mode = 0
		is.leads, err = os.Readlink(full)
	}
	return is, err
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// manifestText returns the manifest. It has a line for each entry: its mode in octal, the sum
// of its content, the target of a link, and its path. "-" stands for nothing.
func manifestText(entries []entry) string {
	var text strings.Builder
	for _, e := range entries {
		sum, leads := e.sum, "-"
		if sum == "" {
			sum = "-"
		}
		if e.leads != "" {
			leads = strconv.Quote(e.leads)
		}
		fmt.Fprintf(&text, "%04o\t%s\t%s\t%s\n", e.mode, sum, leads, strconv.Quote(e.path))
	}
	return text.String()
}

func readManifest(text string) (entries []entry, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 {
			return nil, fmt.Errorf("its manifest has the line %.80q", line)
		}
		mode, err := strconv.ParseUint(fields[0], 8, 32)
		if err != nil {
			return nil, fmt.Errorf("its manifest has the mode %.80q", fields[0])
		}

		e := entry{mode: fs.FileMode(mode)}
		if fields[1] != "-" {
			e.sum = fields[1]
		}

		if fields[2] != "-" {
			if e.leads, err = strconv.Unquote(fields[2]); err != nil {
				return nil, fmt.Errorf("its manifest has the link %.80q", fields[2])
			}
		}
		if e.path, err = strconv.Unquote(fields[3]); err != nil {
			return nil, fmt.Errorf("its manifest has the path %.80q", fields[3])
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// syncPath syncs one file or directory to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
