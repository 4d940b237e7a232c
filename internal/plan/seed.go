package plan

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"holdfast/internal/stack"
)

// MinSeed is how many characters a seed has at least.
const MinSeed = 32

// Seed is the one secret text of a stack in pods. All other secrets follow from it, each by its
// name: a Sentinel or an application that is added needs no change of the seed.
type Seed struct{ text string }

// ParseSeed returns the seed in a text, such as a file's. A newline at the end is no part of it.
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

// NewSeed draws the text of a seed from read, which has to be a source of cryptographic
// randomness such as crypto/rand.Reader.
func NewSeed(read io.Reader) (string, error) { return drawHex(read, 32) }

// Derive returns n bytes, at most 8160, which follow from the seed, the stack's name and the
// label (HKDF with SHA-256, RFC 5869). Different labels have nothing to do with each other.
func (x Seed) Derive(stackName, label string, n int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(x.text), []byte("holdfast stack "+stackName), label, n)
	if err != nil {
		return nil, fmt.Errorf("derive a secret from the seed: %w", err)
	}
	return key, nil
}

// Secrets returns the secrets of a stack. For the same names they are the same in every
// version of Holdfast: pods of two versions work together while one replaces the other.
func (x Seed) Secrets(s stack.Stack) (Secrets, error) {
	return Secrets{}.fill(s, func(label string, size int) (string, error) {
		key, err := x.Derive(s.Name, label, size)
		return hex.EncodeToString(key), err
	})
}
