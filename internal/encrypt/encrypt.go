// Package encrypt encrypts files with age: by a passphrase, or for those who have the key
// of a recipient. "age -d" decrypts what it has written. What a file contains is the
// caller's concern.
package encrypt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// The kinds of an Encryption.
const (
	ByPassphrase  = "passphrase"
	ForRecipients = "recipients"
)

// Encryption is how a file is encrypted. The zero value is no encryption.
type Encryption struct {
	// Kind is ByPassphrase or ForRecipients; it is empty without encryption.
	Kind       string
	recipients []age.Recipient
}

// None reports whether nothing is encrypted.
func (e Encryption) None() bool { return len(e.recipients) == 0 }

// KeyError is why an encrypted file cannot be opened: no key was given, or none
// that fits, or what was given is no key.
type KeyError struct{ err error }

func (e *KeyError) Error() string { return e.err.Error() }
func (e *KeyError) Unwrap() error { return e.err }

func keyError(format string, args ...any) error { return &KeyError{fmt.Errorf(format, args...)} }

// workFactor is how much it costs to try a passphrase, as a power of two: 16 takes 64 MiB
// of memory and a quarter of a second. age itself takes four times as much by default,
// which a machine that serves may not have.
const workFactor = 16

// For returns an Encryption by a passphrase or for age recipients ("age1…"), not both.
// Without either it returns no encryption. Its error is a *KeyError.
func For(passphrase string, recipients []string) (Encryption, error) {
	switch {
	case passphrase != "" && len(recipients) > 0:
		return Encryption{}, keyError("a file is encrypted by a passphrase or for recipients, not both")
	case passphrase != "":
		r, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return Encryption{}, keyError("the passphrase: %w", err)
		}
		r.SetWorkFactor(workFactor)
		return Encryption{ByPassphrase, []age.Recipient{r}}, nil
	case len(recipients) == 0:
		return Encryption{}, nil
	}

	e := Encryption{Kind: ForRecipients}
	for _, text := range recipients {
		if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
			return Encryption{}, keyError("a recipient is a secret key: give the public one that belongs to it (age-keygen -y), which begins with age1")
		}
		all, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return Encryption{}, keyError("%.80q is no age recipient, which is a public key such as age1… ('age-keygen -y' prints it)", text)
		}
		e.recipients = append(e.recipients, all...)
	}
	return e, nil
}

// Writer returns a writer that encrypts what it passes on to w. Its Close ends the
// encrypted stream and does not close w.
func (e Encryption) Writer(w io.Writer) (io.WriteCloser, error) {
	if e.None() {
		return plainWriter{w}, nil
	}
	enc, err := age.Encrypt(w, e.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return enc, nil
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// Key opens encrypted files. The zero value opens none.
type Key struct{ identities []age.Identity }

// None reports whether it is no key.
func (k Key) None() bool { return len(k.identities) == 0 }

// KeyOf makes a key of a passphrase, of the content of a file with age identities
// ("AGE-SECRET-KEY-1…", as age-keygen writes it), or of both. Its error is a *KeyError.
func KeyOf(passphrase string, identities []byte) (Key, error) {
	var k Key
	if passphrase != "" {
		id, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return k, keyError("the passphrase: %w", err)
		}
		k.identities = append(k.identities, id)
	}
	if len(identities) > 0 {
		all, err := age.ParseIdentities(bytes.NewReader(identities))
		if err != nil {
			return k, keyError("the file has no age identity, which begins with AGE-SECRET-KEY-1 (see age-keygen)")
		}
		k.identities = append(k.identities, all...)
	}
	return k, nil
}

// Reader decrypts what it reads from r. The errors call the file what, such as "the
// backup"; kind is the kind of its encryption. An error about the key is a *KeyError,
// any other means that the file is damaged.
func (k Key) Reader(r io.Reader, what, kind string) (io.Reader, error) {
	way := "the identity of one of its recipients"
	if kind == ByPassphrase {
		way = "its passphrase"
	}
	if k.None() {
		return nil, keyError("%s is encrypted, and opens with %s", what, way)
	}

	plain, err := age.Decrypt(r, k.identities...)
	switch {
	case errors.As(err, new(*age.NoIdentityMatchError)):
		return nil, keyError("%s does not open with the key that was given; it opens with %s", what, way)
	case err != nil:
		return nil, fmt.Errorf("what is encrypted does not begin as age writes it: %w", err)
	}
	return plain, nil
}

// The first line of what age writes, and how the next one begins where a passphrase opens
// it (https://age-encryption.org/v1).
const (
	intro       = "age-encryption.org/v1\n"
	scryptIntro = intro + "-> scrypt "
)

// KindOf returns the kind of the encryption of a file by its first bytes; 40 are enough.
// It is empty where the file is not encrypted.
func KindOf(begin []byte) string {
	switch {
	case bytes.HasPrefix(begin, []byte(scryptIntro)):
		return ByPassphrase
	case bytes.HasPrefix(begin, []byte(intro)):
		return ForRecipients
	}
	return ""
}

// ReadPassphrase returns the passphrase in a file's content: its first line.
func ReadPassphrase(content []byte) (string, error) {
	line, rest, _ := strings.Cut(string(content), "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case line == "":
		return "", keyError("the file has no passphrase in its first line")
	case strings.TrimSpace(rest) != "":
		return "", keyError("the file has more than one line; a passphrase is one")
	}
	return line, nil
}
