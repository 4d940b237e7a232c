// Package token holds the tokens that clients present, and the rights of each. It stores tokens
// only as hashes.
//
// Parse reads a token file into a Set; Find returns the Rights of a token, and their methods check
// a command, a key or a pattern. The balancers' challenge to web nodes is in challenge.go.
//
// How a request carries a token, and what a command is, is up to the caller.
package token

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// MinLength is the shortest length of a token, in characters. Its hash has no salt and is quick to
// compute, which is safe only for tokens that cannot be guessed: 16 random characters of base64 are
// 96 bits.
const MinLength = 16

// MaxLength is the greatest length of a token, in characters. It has to fit into a header field
// with room to spare.
const MaxLength = 1024

// Hash returns the SHA-256 of a token in hexadecimal digits, which is what a token file has.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Check returns an error if a text cannot be a token. The error does not quote the text.
func Check(token string) error {
	switch {
	case len(token) < MinLength:
		return fmt.Errorf("the token has %d characters; give at least %d, or let `holdfast token new` make one", len(token), MinLength)
	case len(token) > MaxLength:
		return fmt.Errorf("the token has %d characters; give at most %d", len(token), MaxLength)
	}
	for i := range len(token) {
		// RFC 6750, section 2.1, allows fewer characters behind "Bearer"; these arrive unchanged.
		if token[i] <= ' ' || token[i] > '~' {
			return fmt.Errorf("character %d of the token is a blank or not printable ASCII, which no Authorization header carries", i+1)
		}
	}
	return nil
}

// Rights are what the bearer of a token may do. A nil *Rights is for a client that needs no token:
// it allows everything. Rights do not change, so they are safe for concurrent use.
type Rights struct {
	// Name is the token's name, for logs and metrics.
	Name string
	// ReadOnly allows only commands that Redis calls read-only.
	ReadOnly bool
	// Prefixes are the beginnings of the keys and channels that may be used. Empty: all may.
	Prefixes []string
	// Allow and Deny are the commands ("get", "config|set") and classes ("@string") that may be
	// used, and that may not. An empty Allow allows all. Deny takes precedence.
	Allow, Deny []string
}

// Limited reports whether some keys may not be used.
func (r *Rights) Limited() bool { return r != nil && len(r.Prefixes) > 0 }

// Key reports whether a key, or a channel, may be used.
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

// Pattern reports whether everything that a glob-style pattern (Redis manual, KEYS) can match may
// be used.
func (r *Rights) Pattern(pattern string) bool {
	if !r.Limited() {
		return true
	}
	return r.Key(literal(pattern))
}

// literal returns the text with which every match of a pattern begins.
func literal(pattern string) string {
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return out.String()
		case '\\':
			if i+1 == len(pattern) {
				return out.String() // what a lone backslash matches is not certain
			}
			i++
		}
		out.WriteByte(pattern[i])
	}
	return out.String()
}

// Command reports whether a command may be used, apart from its keys. name is in lower case,
// "config|set" for a subcommand. readOnly is true if Redis calls the command read-only. classes are
// its ACL categories in Redis, without the @. A rule for a command also applies to its subcommands.
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

// AllBut reports whether the bearer may use every command that the mode allows, except commands for
// which nobodyMisses returns true.
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

// Names reports whether a list of commands and @classes contains a command: by its name, by the
// name of the command that it is a subcommand of, or by one of its classes. "@all" is every
// command.
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

// Set is a set of valid tokens. It does not change, so it is safe for concurrent use.
type Set struct {
	byHash map[[sha256.Size]byte]*Rights
	all    []*Rights
}

// Find returns the rights of a token, or nil if the token is not valid. The time that it takes
// reveals nothing about valid tokens: it compares only hashes, and being able to choose a token for
// its hash does not help to find one.
func (s *Set) Find(token []byte) *Rights {
	return s.byHash[sha256.Sum256(token)]
}

// All returns the rights of every token, in the order of the file.
func (s *Set) All() []*Rights { return s.all }
