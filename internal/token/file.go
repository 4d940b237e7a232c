package token

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/yamltree"
)

// The modes of a token.
const (
	ReadWrite = "read-write"
	ReadOnly  = "read-only"
)

// maxFile is the largest size of a token file, in bytes.
const maxFile = 1 << 20

// Entry is a token as the file has it.
type Entry struct {
	Name string // one to 64 printable characters, for logs and metrics
	Hash string // of the token; see Hash
	Mode string // ReadWrite or ReadOnly; empty: ReadWrite
	// Prefixes are the beginnings of the keys and channels that may be used; empty: all may.
	Prefixes []string
	// Commands are what may be used (COMMAND, COMMAND|SUBCOMMAND or @CLASS), and with a minus in
	// front what may not. Empty: all that Mode allows.
	Commands []string
}

// New returns a set of these entries. Its error names every mistake.
func New(entries []Entry) (*Set, error) {
	r := reader{}
	for _, e := range entries {
		r.add(e, places{})
	}
	return r.set()
}

// Parse reads a token file, which is YAML:
//
//	tokens:
//	  - name: shop
//	    hash: 64 digits, as `holdfast token new` and `holdfast token hash` print them
//	    mode: read-write | read-only
//	    prefixes: ["shop:", "session:"]
//	    commands: ["@read", "@write", "-flushall"]
//
// Only name and hash are required. The error names every mistake as "NAME:LINE:COLUMN: what", one a
// line. It never quotes a hash, which might be a token that was given by mistake.
func Parse(name string, data []byte) (*Set, error) {
	r := reader{Reader: yamltree.Reader{File: name}}
	if len(data) > maxFile {
		r.Report(yamltree.Pos{}, "the file has %d bytes; a token file has at most %d", len(data), maxFile)
	} else if root := r.ReadTree(data, format); root != nil {
		r.document(root)
	}
	return r.set()
}

// reader collects the tokens of a file, and its mistakes.
type reader struct {
	yamltree.Reader
	entries []*Rights
	hashes  [][sha256.Size]byte
	names   map[string]bool
}

func (r *reader) set() (*Set, error) {
	if len(r.Mistakes) == 0 && len(r.entries) == 0 {
		r.Report(yamltree.Pos{}, "there is no token in it, so that nobody could come in; `holdfast token new` makes one")
	}
	if len(r.Mistakes) > 0 {
		return nil, r.Mistakes
	}
	s := &Set{byHash: map[[sha256.Size]byte]*Rights{}, all: r.entries}
	for i, rights := range r.entries {
		s.byHash[r.hashes[i]] = rights
	}
	return s, nil
}

// places are where the parts of an entry are in the file.
type places struct {
	whole, name, hash, mode yamltree.Pos
	prefixes, commands      []yamltree.Pos
}

func (p places) of(list []yamltree.Pos, i int) yamltree.Pos {
	if i < len(list) {
		return list[i]
	}
	return p.whole
}

// item is a command, a subcommand or a class.
var item = regexp.MustCompile(`^(@[a-z]+|[a-z0-9_.-]+(\|[a-z0-9_-]+)?)$`)

// Item returns an error for a text that is not COMMAND, COMMAND|SUBCOMMAND or @CLASS in lower case.
// Whether a command exists, only Redis knows.
func Item(text string) error {
	if !item.MatchString(text) {
		return fmt.Errorf("%q is not a command (get, config|set) or a class (@read)", text)
	}
	return nil
}

// add checks an entry, and adds it if it is valid.
func (r *reader) add(e Entry, at places) {
	begun := len(r.Mistakes)
	if e.Name == "" || len(e.Name) > 64 || strings.ContainsFunc(e.Name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.Report(at.name, "the name %.80q of a token has to be 1 to 64 printable ASCII characters without blanks", e.Name)
	} else if r.names[e.Name] {
		r.Report(at.name, "a second token is named %q", e.Name)
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}

	r.names[e.Name] = true

	var sum [sha256.Size]byte
	if raw, err := hex.DecodeString(e.Hash); err != nil || len(raw) != sha256.Size {
		r.Report(at.hash, "the hash of token %q is not %d hexadecimal digits: it is the token's SHA-256, as `holdfast token hash` prints it, and not the token", e.Name, 2*sha256.Size)
	} else if sum = [sha256.Size]byte(raw); slices.Contains(r.hashes, sum) {
		r.Report(at.hash, "token %q has the hash of another token; make a new one with `holdfast token new`", e.Name)
	}

	rights := &Rights{Name: e.Name}
	switch e.Mode {
	case "", ReadWrite:
	case ReadOnly:
		rights.ReadOnly = true
	default:
		r.Report(at.mode, "the mode %q of token %q is neither %s nor %s", e.Mode, e.Name, ReadWrite, ReadOnly)
	}

	for i, prefix := range e.Prefixes {
		if prefix == "" {
			r.Report(at.of(at.prefixes, i), "an empty prefix of token %q would allow every key; leave prefixes out for that", e.Name)
		}
		rights.Prefixes = append(rights.Prefixes, prefix)
	}

	for i, text := range e.Commands {
		what, minus := strings.CutPrefix(strings.ToLower(text), "-")
		what = strings.TrimPrefix(what, "+") // the form of Redis' ACL
		if err := Item(what); err != nil {
			r.Report(at.of(at.commands, i), "token %q: %v", e.Name, err)
			continue
		}
		if minus {
			rights.Deny = append(rights.Deny, what)
		} else {
			rights.Allow = append(rights.Allow, what)
		}
	}

	if len(r.Mistakes) == begun {
		r.entries = append(r.entries, rights)
		r.hashes = append(r.hashes, sum)
	}
}
