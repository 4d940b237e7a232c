package token

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
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

// mistake is one mistake in a file.
type mistake struct {
	line, column int // from 1; 0: no particular place
	what         string
}

func (m mistake) Error() string {
	if m.line == 0 {
		return m.what
	}
	return fmt.Sprintf("%d:%d: %s", m.line, m.column, m.what)
}

// New returns a set of these entries. Its error names every mistake.
func New(entries []Entry) (*Set, error) {
	r := reader{}
	for i, e := range entries {
		r.add(e, places{whole: mistake{what: fmt.Sprintf("token %d", i+1)}})
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
	r := reader{file: name}
	if len(data) > maxFile {
		r.wrong(mistake{}, "the file has %d bytes; a token file has at most %d", len(data), maxFile)
		return r.set()
	}

	for i, line := range strings.Split(string(data), "\n") {
		if !utf8.ValidString(line) {
			r.wrong(mistake{line: i + 1, column: 1}, "the line is not UTF-8: save the file as UTF-8 text")
			return r.set()
		}
	}

	parts := lexer.Tokenize(string(data))
	for _, part := range parts {
		// The scanner turns half a surrogate pair (\uDC00) into U+FFFD, and joins several tokens into
		// one text. Origin has the characters that are not escapes: what is more comes from escapes.
		const unknown = "\uFFFD"
		if part.Type == token.DoubleQuoteType && strings.Count(part.Value, unknown) > strings.Count(part.Origin, unknown) {
			r.wrong(mistake{line: part.Position.Line, column: part.Position.Column}, "an escape in the text stands for no character: write the character itself")
			return r.set()
		}
	}

	file, err := parseYAML(parts)
	if err != nil {
		at := mistake{}
		what := err.Error()
		var located yaml.Error
		if errors.As(err, &located) {
			what = located.GetMessage()
			if tk := located.GetToken(); tk != nil && tk.Position != nil {
				at.line, at.column = tk.Position.Line, tk.Position.Column
			}
		}
		r.wrong(at, "not YAML: %s", what)
		return r.set()
	}

	for i, doc := range file.Docs {
		if i > 0 && doc.Body != nil {
			r.wrong(place(doc.Body), "a second YAML document begins; a token file is one")
			break
		}
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			r.document(doc.Body)
		}
	}
	return r.set()
}

// parseYAML returns an error where the YAML parser panics: a file that makes it panic is a broken
// file.
func parseYAML(parts token.Tokens) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the YAML parser gave up on it (%v)", p)
		}
	}()
	return parser.Parse(parts, 0)
}

// reader collects the tokens of a file, and its mistakes.
type reader struct {
	file     string
	entries  []*Rights
	hashes   [][sha256.Size]byte
	names    map[string]bool
	mistakes []error
}

func (r *reader) wrong(at mistake, format string, args ...any) {
	at.what = fmt.Sprintf(format, args...)
	if r.file == "" {
		r.mistakes = append(r.mistakes, at)
		return
	}
	separator := ": "
	if at.line > 0 {
		separator = ":"
	}
	r.mistakes = append(r.mistakes, errors.New(r.file+separator+at.Error()))
}

func (r *reader) set() (*Set, error) {
	if len(r.mistakes) == 0 && len(r.entries) == 0 {
		r.wrong(mistake{}, "there is no token in it, so that nobody could come in; `holdfast token new` makes one")
	}
	if len(r.mistakes) > 0 {
		return nil, errors.Join(r.mistakes...)
	}
	s := &Set{byHash: map[[sha256.Size]byte]*Rights{}, all: r.entries}
	for i, rights := range r.entries {
		s.byHash[r.hashes[i]] = rights
	}
	return s, nil
}

// places are where the parts of an entry are in the file.
type places struct {
	whole, name, hash, mode mistake
	prefixes, commands      []mistake
}

func (p places) of(list []mistake, i int) mistake {
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
	begun := len(r.mistakes)
	if e.Name == "" || len(e.Name) > 64 || strings.ContainsFunc(e.Name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.wrong(at.name, "the name %.80q of a token has to be 1 to 64 printable ASCII characters without blanks", e.Name)
	} else if r.names[e.Name] {
		r.wrong(at.name, "a second token is named %q", e.Name)
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}

	r.names[e.Name] = true

	var sum [sha256.Size]byte
	if raw, err := hex.DecodeString(e.Hash); err != nil || len(raw) != sha256.Size {
		r.wrong(at.hash, "the hash of token %q is not %d hexadecimal digits: it is the token's SHA-256, as `holdfast token hash` prints it, and not the token", e.Name, 2*sha256.Size)
	} else if sum = [sha256.Size]byte(raw); slices.Contains(r.hashes, sum) {
		r.wrong(at.hash, "token %q has the hash of another token; make a new one with `holdfast token new`", e.Name)
	}

	rights := &Rights{Name: e.Name}
	switch e.Mode {
	case "", ReadWrite:
	case ReadOnly:
		rights.ReadOnly = true
	default:
		r.wrong(at.mode, "the mode %q of token %q is neither %s nor %s", e.Mode, e.Name, ReadWrite, ReadOnly)
	}

	for i, prefix := range e.Prefixes {
		if prefix == "" {
			r.wrong(at.of(at.prefixes, i), "an empty prefix of token %q would allow every key; leave prefixes out for that", e.Name)
		}
		rights.Prefixes = append(rights.Prefixes, prefix)
	}

	for i, text := range e.Commands {
		what, minus := strings.CutPrefix(strings.ToLower(text), "-")
		what = strings.TrimPrefix(what, "+") // the form of Redis' ACL
		if err := Item(what); err != nil {
			r.wrong(at.of(at.commands, i), "token %q: %v", e.Name, err)
			continue
		}
		if minus {
			rights.Deny = append(rights.Deny, what)
		} else {
			rights.Allow = append(rights.Allow, what)
		}
	}

	if len(r.mistakes) == begun {
		r.entries = append(r.entries, rights)
		r.hashes = append(r.hashes, sum)
	}
}
