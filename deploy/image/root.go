package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// tree is the content of a file system, by path (without a slash at either end).
type tree map[string]file

// add adds a file to the tree, with the directories above it, owned by root.
func (t tree) add(f file) {
	f.Uid, f.Gid, f.Uname, f.Gname = 0, 0, "", ""
	t[f.Name] = f
	for dir := path.Dir(f.Name); dir != "."; dir = path.Dir(dir) {
		if _, there := t[dir]; !there {
			t[dir] = file{Header: tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: f.ModTime}}
		}
	}
}

// addFile, addDir and addLink add entries that do not come from a package.
func (t tree) addFile(name string, mode int64, at time.Time, data []byte) {
	t.add(file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, ModTime: at}, data})
}

func (t tree) addDir(name string, mode int64, at time.Time) {
	t.add(file{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: at}})
}

func (t tree) addLink(name, to string, at time.Time) {
	t.add(file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777, ModTime: at}})
}

// tar returns the tree as an archive. The same tree gives the same bytes.
func (t tree) tar() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)

	newest := t.newest()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		f := t[name]
		header := tar.Header{
			Typeflag: f.Typeflag, Name: f.Name, Linkname: f.Linkname, Mode: f.Mode, Size: int64(len(f.data)),
			ModTime: f.ModTime.Truncate(time.Second), Format: tar.FormatPAX,
		}
		if f.Typeflag == tar.TypeDir {
			header.Name += "/"
			header.ModTime = newest.Truncate(time.Second) // so that the order of adding does not matter
		}

		if err := w.WriteHeader(&header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}

	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// newest returns the time of the newest entry that is not a directory.
func (t tree) newest() time.Time {
	var at time.Time
	for _, f := range t {
		if f.Typeflag != tar.TypeDir && f.ModTime.After(at) {
			at = f.ModTime
		}
	}
	return at
}

// needs are the files that an image takes from Debian's packages, besides the shared libraries
// that its programs are linked with.
type needs struct {
	packages []string // the packages to search, together with all that they depend on
	paths    []string // programs, libraries that are loaded by name, and other files
	patterns []string // more files (path.Match); each pattern has to match at least one
}

// take makes a tree of the needed files, and returns it with the packages that they come from,
// sorted by name. For each of these packages the tree also has the copyright file, and the
// control file, by which scanners recognize what is installed.
func take(packages []*pkg, n needs) (tree, []*pkg, error) {
	type owned struct {
		file
		by *pkg
	}
	there := map[string]owned{}
	for _, p := range packages {
		for _, f := range p.files {
			if _, twice := there[f.Name]; !twice || f.Typeflag != tar.TypeDir {
				there[f.Name] = owned{f, p}
			}
		}
	}

	t := tree{}
	used := map[*pkg]bool{}
	libraries := map[string]string{} // path by name
	for name := range there {
		dir, base := path.Split(name)
		if strings.HasPrefix(dir, "usr/lib/") && strings.Count(dir, "/") == 3 && strings.Contains(base, ".so") {
			libraries[base] = name
		}
	}

	// bring adds a file, with the target of a link, and with the libraries that a program is
	// linked with.
	var bring func(name, wanted string) error
	bring = func(name, wanted string) error {
		if _, done := t[name]; done && t[name].Typeflag != tar.TypeDir {
			return nil
		}
		f, found := there[name]
		if !found {
			return fmt.Errorf("%s, which %s needs, is in none of the packages", name, wanted)
		}
		t.add(f.file)
		if f.Typeflag != tar.TypeDir {
			used[f.by] = true
		}

		switch f.Typeflag {
		case tar.TypeSymlink:
			to := f.Linkname
			if !path.IsAbs(to) {
				to = path.Join("/", path.Dir(name), to)
			}
			to = strings.Trim(path.Clean(to), "/")
			if target, found := there[to]; !found || target.Typeflag == tar.TypeDir {
				return nil
			}
			return bring(to, name)
		case tar.TypeLink:
			return bring(f.Linkname, name)
		case tar.TypeReg:
			linked, loader, err := linkedWith(f.data)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if loader != "" {
				// A program names its loader by the path from before /lib became a link to
				// /usr/lib.
				if err := bring("usr"+loader, name); err != nil {
					return err
				}
			}
			for _, library := range linked {
				at, found := libraries[library]
				if !found {
					return fmt.Errorf("the library %s, which %s is linked with, is in none of the packages", library, name)
				}
				if err := bring(at, name); err != nil {
					return err
				}
			}
		}
		return nil
	}

	for _, name := range n.paths {
		if err := bring(name, "the image"); err != nil {
			return nil, nil, err
		}
	}
	for _, pattern := range n.patterns {
		matches := 0
		for name := range there {
			if match, err := path.Match(pattern, name); err != nil {
				return nil, nil, err
			} else if match {
				matches++
				if err := bring(name, "the image"); err != nil {
					return nil, nil, err
				}
			}
		}
		if matches == 0 {
			return nil, nil, fmt.Errorf("nothing in the packages matches %s", pattern)
		}
	}

	// The copyright file of a package may belong to another package of the same source, which
	// is then used as well. So this repeats until no package is added.
	for counted := -1; counted != len(used); {
		counted = len(used)
		for p := range maps.Clone(used) {
			doc := "usr/share/doc/" + p.name
			if link, found := there[doc]; found && link.Typeflag == tar.TypeSymlink {
				t.add(link.file)
				doc = path.Join("usr/share/doc", link.Linkname)
			}
			if err := bring(doc+"/copyright", "package "+p.name); err != nil {
				return nil, nil, err
			}
		}
	}

	list := slices.SortedFunc(maps.Keys(used), func(a, b *pkg) int { return cmp.Compare(a.name, b.name) })
	newest := t.newest()
	for _, p := range list {
		t.addFile("var/lib/dpkg/status.d/"+p.name, 0o644, newest, p.control)
	}
	return t, list, nil
}

// linkedWith returns the names of the shared libraries that a program or library is linked
// with, and the path of a program's loader. For any other file it returns nothing.
func linkedWith(data []byte) (libraries []string, loader string, err error) {
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, "", nil
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, "", err
	}
	libraries, err = f.ImportedLibraries()
	if err != nil {
		return nil, "", err
	}
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			name := make([]byte, segment.Filesz)
			if _, err := segment.ReadAt(name, 0); err != nil {
				return nil, "", err
			}
			loader = strings.TrimRight(string(name), "\x00")
		}
	}
	return libraries, loader, nil
}
