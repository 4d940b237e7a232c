// Package encrypt encrypts and decrypts files with age: with a passphrase, or for recipients.
// "age -d" decrypts them as well. The content of a file is the caller's business.
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

// KeyError is the error when an encrypted file cannot be opened because no key was given, the
// key is the wrong one, or what was given is not a key.
type KeyError struct{ err error }

func (e *KeyError) Error() string { return e.err.Error() }
func (e *KeyError) Unwrap() error { return e.err }

func keyError(format string, args ...any) error { return &KeyError{fmt.Errorf(format, args...)} }

// workFactor is the cost of trying a passphrase, as a power of two. 16 takes 64 MiB of memory
// and a quarter of a second. The default of age takes four times as much, which a machine that
// serves requests may not have.
const workFactor = 16

// For returns an Encryption by a passphrase or for age recipients ("age1…"), but not both. With
// neither it returns no encryption. The error is a *KeyError.
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

// Writer returns a writer that encrypts and writes to w. Its Close finishes the encrypted
// stream, and does not close w.
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

// Key decrypts files. The zero value is no key.
type Key struct{ identities []age.Identity }

// None reports whether it is no key.
func (k Key) None() bool { return len(k.identities) == 0 }

// KeyOf returns the key for a passphrase, for the content of a file with age identities
// ("AGE-SECRET-KEY-1…", as age-keygen writes it), or for both. The error is a *KeyError.
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

// Reader returns a reader that decrypts r. What is the name of the file in errors, such as "the
// backup", and kind the kind of its encryption. The error is a *KeyError if the key is missing
// or wrong; any other error means that the file is damaged.
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

// The first line of a file of age, and the beginning of the second line if a passphrase opens
// the file (https://age-encryption.org/v1).
const (
	intro       = "age-encryption.org/v1\n"
	scryptIntro = intro + "-> scrypt "
)

// KindOf returns the kind of a file's encryption by its first bytes, of which 40 are enough. It
// is empty if the file is not encrypted.
func KindOf(begin []byte) string {
	switch {
	case bytes.HasPrefix(begin, []byte(scryptIntro)):
		return ByPassphrase
	case bytes.HasPrefix(begin, []byte(intro)):
		return ForRecipients
	}
	return ""
}

// ReadPassphrase returns the passphrase of a file with this content, which is its only line. The
// error is a *KeyError.
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
