package stack

import (
	"slices"
	"strings"
)

// ReferenceKind is what a stack file expects in a place on the disk.
type ReferenceKind string

// The kinds of reference.
const (
	ProgramFile ReferenceKind = "program" // a path, or a name to look for on PATH
	Directory   ReferenceKind = "directory"
	TokensFile  ReferenceKind = "tokens"
	// Certificate is a file with a certificate, of which Reference.Key may be in another
	// file; Certificates is a directory with such files.
	Certificate  ReferenceKind = "certificate"
	Certificates ReferenceKind = "certificates"
	PageFile     ReferenceKind = "page"
)

// Reference is something on the disk that a stack file names. Whether it is
// there is not this package's to know.
type Reference struct {
	App  string // empty: it is an entry's
	Kind ReferenceKind
	// Path is as the file has it. Pair is the file of the key of a Certificate; empty: it is
	// in the same one.
	Path, Pair string
	// Listen is the address of the tcp entry that it is of; empty: it is the entry's, or an
	// application's.
	Listen string
	// InRelease is true for what is looked for in the application's release.
	InRelease bool

	at path
}

// Key is where the reference stands, such as apps.web.dir.
func (r Reference) Key() string { return r.at.String() }

// References are what a stack names on the disk: first the entries, then by application.
func (s Stack) References() []Reference {
	var all []Reference
	add := func(app string, kind ReferenceKind, name string, keys ...string) {
		if name != "" {
			at := path("apps").key(app).key(strings.Join(keys, "/"))
			inRelease := s.Apps[app].Release != "" && keys[0] != "release"
			all = append(all, Reference{App: app, Kind: kind, Path: name, InRelease: inRelease, at: at})
		}
	}
	for _, entry := range s.Showing() {
		for i, pair := range entry.Certificates {
			all = append(all, Reference{Kind: Certificate, Path: pair.Certificate, Pair: pair.Key, Listen: entry.Listen, at: entry.at.key("certificates").item(i)})
		}
		if entry.Directory != "" {
			all = append(all, Reference{Kind: Certificates, Path: entry.Directory, Listen: entry.Listen, at: entry.at.key("directory")})
		}
	}
	for _, status := range sortedKeys(s.Entry.Errors) {
		if file := s.Entry.Errors[status]; isPageFile(file) {
			all = append(all, Reference{Kind: PageFile, Path: file, at: path("entry/errors").key(status)})
		}
	}
	for _, name := range s.AppNames() {
		a := s.Apps[name]
		add(name, Directory, a.Files, "files")
		if len(a.Command) > 0 {
			add(name, Directory, a.Release, "release")
			add(name, ProgramFile, a.Command[0], "command", "#0")
			add(name, Directory, a.Dir, "dir")
		}
		if a.KV != nil {
			add(name, TokensFile, a.KV.TokensFile, "kv", "tokens-file")
		}
	}
	return all
}

// Mistake is what is wrong with a reference, at its place in the stack file of
// that name and text.
func (r Reference) Mistake(file string, data []byte, what string) Mistake {
	at := read(file, data).near(r.at)
	return Mistake{file, at.line, at.column, r.Key() + ": " + what}
}

// MistakeAt is what somebody else has to say about a key, such as hosts.one, at its
// place in the stack file of that name and text.
func MistakeAt(file string, data []byte, key, what string) Mistake {
	at := read(file, data).keyAt(path(strings.ReplaceAll(key, ".", "/")))
	return Mistake{file, at.line, at.column, what}
}

// read finds the keys of a stack file.
func read(file string, data []byte) *reader {
	in := newReader(file)
	if root := in.readTree(data); root != nil {
		s := base()
		readKeys(in, "", root, stackKeys, &s)
	}
	return in
}

// With is these mistakes and more, in the order of the file.
func (m Mistakes) With(more ...Mistake) Mistakes {
	return append(slices.Clone(m), more...).sorted()
}
