package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Encryption is how a backup is encrypted: by a passphrase, or for those who have the
// key of a recipient. The zero value is no encryption.
type Encryption struct {
	// Kind is what the manifest says: passphrase or recipients; empty: none.
	Kind       string
	recipients []age.Recipient
}

// None reports whether nothing is encrypted.
func (e Encryption) None() bool { return len(e.recipients) == 0 }

// workFactor is how much it costs to try a passphrase, as a power of two: 16 takes 64 MiB
// of memory and a quarter of a second. age itself takes four times as much by default,
// which a machine that serves may not have.
const workFactor = 16

// EncryptFor makes an Encryption of a passphrase or of age recipients ("age1…"), not of
// both; of neither it is none. Its error is a *KeyError.
func EncryptFor(passphrase string, recipients []string) (Encryption, error) {
	switch {
	case passphrase != "" && len(recipients) > 0:
		return Encryption{}, keyError("a backup is encrypted by a passphrase or for recipients, not both")
	case passphrase != "":
		r, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return Encryption{}, keyError("the passphrase: %w", err)
		}
		r.SetWorkFactor(workFactor)
		return Encryption{"passphrase", []age.Recipient{r}}, nil
	case len(recipients) == 0:
		return Encryption{}, nil
	}
	e := Encryption{Kind: "recipients"}
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

// Key opens an encrypted backup. The zero value opens those alone that are not.
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

// open decrypts what is read from r.
func (k Key) open(r io.Reader, kind string) (io.Reader, error) {
	way := "the identity of one of its recipients"
	if kind == "passphrase" {
		way = "its passphrase"
	}
	if k.None() {
		return nil, keyError("the backup is encrypted, and opens with %s", way)
	}
	plain, err := age.Decrypt(r, k.identities...)
	switch {
	case errors.As(err, new(*age.NoIdentityMatchError)):
		return nil, keyError("the backup does not open with the key that was given; it opens with %s", way)
	case err != nil:
		return nil, damaged("what is encrypted does not begin as age writes it: %w", err)
	}
	return &ageReader{plain}, nil
}

// ageReader tells a failure of the decryption, which is damage, from the end.
type ageReader struct{ plain io.Reader }

func (r *ageReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && err != io.EOF {
		err = damaged("what is encrypted is damaged: %w", err)
	}
	return n, err
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

// encrypting returns a writer whose Close ends the encrypted stream.
func (e Encryption) encrypting(w io.Writer) (io.WriteCloser, error) {
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
