// Package token holds who may do what: the tokens that clients present, and
// the rights of each. It knows tokens by their hashes alone. Where a token
// comes from in a request, and what a command is, is the caller's affair.
package token

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// MinLength is how short a token may be, in characters. Its hash has no salt
// and is quick to compute, which is safe only for what cannot be guessed: 16
// random characters of base64 are 96 bits.
const MinLength = 16

// MaxLength is how long a token may be, in characters: it has to fit into a
// header field with room to spare.
const MaxLength = 1024

// Hash is the SHA-256 of a token, in hex: what a token file holds of it.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Check says what is wrong with a text as a token; nil: nothing. The error
// does not quote it.
func Check(token string) error {
	switch {
	case len(token) < MinLength:
		return fmt.Errorf("the token has %d characters; give at least %d, or let `holdfast token new` make one", len(token), MinLength)
	case len(token) > MaxLength:
		return fmt.Errorf("the token has %d characters; give at most %d", len(token), MaxLength)
	}
	for i := range len(token) {
		// What RFC 6750, section 2.1, allows behind "Bearer" is narrower;
		// this is what arrives unharmed.
		if token[i] <= ' ' || token[i] > '~' {
			return fmt.Errorf("character %d of the token is a blank or not printable ASCII, which no Authorization header carries", i+1)
		}
	}
	return nil
}

// Rights are what the bearer of a token may do. A nil *Rights is somebody who
// needs no token: all is allowed. Rights do not change; anybody may use them
// at any time.
type Rights struct {
	// Name is the token's, for logs and metrics.
	Name string
	// ReadOnly: only commands that Redis calls read-only.
	ReadOnly bool
	// Prefixes begin the keys and channels that may be used. Empty: all may.
	Prefixes []string
	// Allow and Deny are the commands ("get", "config|set") and classes
	// ("@string") that may be used, and may not. An empty Allow allows all.
	// Deny wins.
	Allow, Deny []string
}

// Limited says that not every key may be used.
func (r *Rights) Limited() bool { return r != nil && len(r.Prefixes) > 0 }

// Key says whether a key, or a channel, may be used.
func (r *Rights) Key(key string) bool {
	if !r.Limited() {
		return true
	}
	for _, prefix := range r.Prefixes {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// Pattern says whether everything that a glob-style pattern (Redis manual,
// KEYS) can match may be used.
func (r *Rights) Pattern(pattern string) bool {
	if !r.Limited() {
		return true
	}
	return r.Key(literal(pattern))
}

// literal is what every match of a pattern begins with.
func literal(pattern string) string {
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return out.String()
		case '\\':
			if i+1 == len(pattern) {
				return out.String() // what a lone backslash matches is not sure
			}
			i++
		}
		out.WriteByte(pattern[i])
	}
	return out.String()
}

// Command says whether a command may be used, apart from its keys. Its name is
// in lower case, of a subcommand "config|set"; readOnly says that Redis calls
// it read-only; its classes are Redis' ACL categories without the @. A
// subcommand is meant by the name of its command too.
func (r *Rights) Command(name string, readOnly bool, classes []string) bool {
	if r == nil {
		return true
	}
	if r.ReadOnly && !readOnly {
		return false
	}
	if Names(r.Deny, name, classes) {
		return false
	}
	return len(r.Allow) == 0 || Names(r.Allow, name, classes)
}

// AllBut reports whether the bearer may use every command that the mode allows, but
// for those that nobody misses, by their names.
func (r *Rights) AllBut(nobodyMisses func(name string) bool) bool {
	if r == nil {
		return true
	}
	for _, item := range r.Deny {
		if strings.HasPrefix(item, "@") || !nobodyMisses(item) {
			return false
		}
	}
	return len(r.Allow) == 0 || slices.Contains(r.Allow, "@all")
}

// Names says whether a list of commands and @classes has a command in it: by
// its name, by the name of the command that it is a subcommand of, or by one
// of its classes. "@all" is every command.
func Names(list []string, name string, classes []string) bool {
	parent, _, _ := strings.Cut(name, "|")
	for _, item := range list {
		class, isClass := strings.CutPrefix(item, "@")
		if !isClass {
			if item == name || item == parent {
				return true
			}
			continue
		}
		if class == "all" {
			return true
		}
		for _, c := range classes {
			if c == class {
				return true
			}
		}
	}
	return false
}

// Set is all tokens that are good. It does not change; anybody may use it at
// any time.
type Set struct {
	byHash map[[sha256.Size]byte]*Rights
	all    []*Rights
}

// Find answers the rights of a token; nil when it is not a good one. The time
// it takes tells nothing of a good token: only hashes are compared, and who
// could choose a token for its hash knows none the better.
func (s *Set) Find(token []byte) *Rights {
	return s.byHash[sha256.Sum256(token)]
}

// All are the rights of every token, in the order of the file.
func (s *Set) All() []*Rights { return s.all }
