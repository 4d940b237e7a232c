package stack

import "strings"

// ReferenceKind is what a stack file expects at a path on the disk.
type ReferenceKind string

// The kinds of reference.
const (
	ProgramFile ReferenceKind = "program" // a path, or a name to look for on PATH
	Directory   ReferenceKind = "directory"
	TokensFile  ReferenceKind = "tokens"
	// Certificate is a file with a certificate; the key may be in another file (Reference.Pair).
	// Certificates is a directory with such files.
	Certificate  ReferenceKind = "certificate"
	Certificates ReferenceKind = "certificates"
	PageFile     ReferenceKind = "page"
)

// Reference is a file or directory that a stack file names. This package does not know whether it
// exists.
type Reference struct {
	App  string // empty: the reference belongs to an entry
	Kind ReferenceKind
	// Path is the path as the file has it. Pair is the file with the key of a Certificate; empty:
	// the key is in the same file.
	Path, Pair string
	// Listen is the address of the tcp entry that the reference belongs to; empty: it belongs to
	// the stack's entry or to an application.
	Listen string
	// InRelease is true where the path is in the application's release.
	InRelease bool

	at path
}

// Key returns the key that has the reference, such as apps.web.dir.
func (r Reference) Key() string { return r.at.String() }

// References returns what a stack names on the disk: first for the entries, then for the
// applications.
func (s Stack) References() []Reference {
	var all []Reference
	add := func(app string, kind ReferenceKind, name string, keys ...string) {
		if name != "" {
			at := path("apps").key(app).key(strings.Join(keys, "/"))
			inRelease := s.Apps[app].Release != "" && keys[0] != "release"
			all = append(all, Reference{App: app, Kind: kind, Path: name, InRelease: inRelease, at: at})
		}
	}

	for _, entry := range s.CertificateEntries() {
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

// Mistake returns a mistake about a reference, at its place in the stack file of that name and
// content.
func (r Reference) Mistake(file string, data []byte, what string) Mistake {
	at := read(file, data).positionOf(r.at)
	return Mistake{File: file, Line: at.Line, Column: at.Column, What: r.Key() + ": " + what}
}

// MistakeAt returns a mistake that another package has found about a key, such as hosts.one, at its
// place in the stack file of that name and content.
func MistakeAt(file string, data []byte, key, what string) Mistake {
	at := read(file, data).keyPosition(path(strings.ReplaceAll(key, ".", "/")))
	return Mistake{File: file, Line: at.Line, Column: at.Column, What: what}
}

// read finds the places of the keys of a stack file.
func read(file string, data []byte) *reader {
	in := newReader(file)
	if root := in.readTree(data); root != nil {
		s := base()
		readKeys(in, "", root, stackKeys, &s)
	}
	return in
}
