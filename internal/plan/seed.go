package plan

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"holdfast/internal/stack"
)

// MinSeed is the smallest number of characters of a seed.
const MinSeed = 32

// Seed is the one secret text of a stack in pods. Every other secret is derived from it under a
// name of its own, so a new Sentinel or application needs no new seed.
type Seed struct{ text string }

// ParseSeed returns the seed in a text, such as a file's content. It ignores line ends at the end.
// It returns an error for a text of fewer than MinSeed characters.
func ParseSeed(text string) (Seed, error) {
	text = strings.TrimRight(text, "\r\n")
	switch n := utf8.RuneCountInString(text); {
	case n == 0:
		return Seed{}, fmt.Errorf("the seed is empty: it is random text of at least %d characters", MinSeed)
	case n < MinSeed:
		return Seed{}, fmt.Errorf("the seed has %d characters: it is random text of at least %d", n, MinSeed)
	}
	return Seed{text}, nil
}

// ParseProgramPassword returns the password of a program in a text, such as a file's content. It
// ignores line ends at the end. The password stands in a URL and in Redis' file of users, so it has
// letters and digits alone.
func ParseProgramPassword(text string) (string, error) {
	text = strings.TrimRight(text, "\r\n")
	if !programPassword.MatchString(text) {
		return "", fmt.Errorf("a program's password at Redis is random text of at least %d letters and digits: this one is shorter, or has other characters", MinSeed)
	}
	return text, nil
}

var programPassword = regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9]{%d,1000}$`, MinSeed))

// NewSeed draws the text of a seed from read, which has to be a source of cryptographic
// randomness such as crypto/rand.Reader.
func NewSeed(read io.Reader) (string, error) { return drawHex(read, 32) }

// Derive returns n bytes (at most 8160) derived from the seed, the stack's name and the label (HKDF
// with SHA-256, RFC 5869). The bytes for one label reveal nothing about those for another one.
func (x Seed) Derive(stackName, label string, n int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(x.text), []byte("holdfast stack "+stackName), label, n)
	if err != nil {
		return nil, fmt.Errorf("derive a secret from the seed: %w", err)
	}
	return key, nil
}

// Secrets returns the secrets of a stack. The same names give the same secrets in every version of
// Holdfast, so that pods of two versions work together during an upgrade.
func (x Seed) Secrets(s stack.Stack) (Secrets, error) {
	return Secrets{}.fill(s, func(label string, size int) (string, error) {
		key, err := x.Derive(s.Name, label, size)
		return hex.EncodeToString(key), err
	})
}
