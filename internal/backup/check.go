package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"strings"

	"holdfast/internal/encrypt"
)

// Depth is how thoroughly a backup was verified.
type Depth string

// The depths. Each includes those before it.
const (
	// Bytes means that every byte is the one that was written.
	Bytes Depth = "bytes"
	// Structure means that the dump is complete, and has as many keys as the manifest says.
	Structure Depth = "structure"
	// Loaded means that a Redis server has loaded it, and has counted as many keys.
	Loaded Depth = "loaded"
)

// Open opens a file to read it as a backup. It must be an ordinary file.
func Open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no ordinary file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadManifest reads the manifest of a backup, and nothing after it. It verifies nothing.
func ReadManifest(r io.Reader) (Manifest, error) {
	name, size, err := readHeader(r, 0)
	if err != nil {
		return Manifest{}, err
	}
	if name != memberManifest || size != manifestSize {
		return Manifest{}, damaged("the header of the manifest is damaged")
	}
	return readManifest(r)
}

func readManifest(r io.Reader) (Manifest, error) {
	b := make([]byte, manifestSize)
	if _, err := io.ReadFull(r, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Manifest{}, damaged("the file is cut off in %s", memberManifest)
	} else if err != nil {
		return Manifest{}, err
	}
	return decodeManifest(b)
}

// Check reads a whole backup and verifies it: every byte against the checksums, and the
// structure and the number of keys of the dump against the manifest. The latter needs
// the key if the backup is encrypted. The error is a *DamagedError, a *ForeignError, or
// an *encrypt.KeyError if a key was given that does not open the backup.
func Check(r io.Reader, k encrypt.Key) (Manifest, Depth, error) {
	var m Manifest
	depth := Structure
	if _, seekable := r.(io.Seeker); seekable {
		r = struct{ io.Reader }{r} // hides Seek, so that nothing is skipped
	}

	// A problem of the dump is returned only if the checksums are right. If they are
	// wrong, that is the better explanation.
	var found error
	err := readArchive(r, func(name string, size int64, content io.Reader) (err error) {
		switch strings.TrimSuffix(name, encryptedEnd) {
		case memberManifest:
			if size != manifestSize {
				return damaged("the header of the manifest is damaged")
			}
			m, err = readManifest(content)
			if damage := new(DamagedError); errors.As(err, &damage) {
				found, err = damage, nil
			}
			return err
		case memberDump:
			if found != nil {
				return nil
			}
			if (m.Encryption != "") != strings.HasSuffix(name, encryptedEnd) {
				found = damaged("the manifest and the name of the dump differ in whether it is encrypted")
				return nil
			}
			if m.Encryption != "" && k.None() {
				depth = Bytes
				return nil
			}
			err = m.checkDump(content, k)
			if damage := new(DamagedError); errors.As(err, &damage) {
				found, err = damage, nil
			}
			return err
		}
		return nil
	})

	if err == nil {
		err = found
	}
	return m, depth, err
}

// checkDump compares a dump with its manifest.
func (m Manifest) checkDump(stored io.Reader, k encrypt.Key) error {
	dump := stored
	if m.Encryption != "" {
		var err error
		if dump, err = decrypting(stored, m.Encryption, k); err != nil {
			return err
		}
	}
	sum := newCounter()
	summary, err := Scan(io.TeeReader(dump, sum))
	switch {
	case err != nil:
		return err
	case sum.contents() != m.Dump:
		return damaged("the dump is not the one that the manifest names: its size or SHA-256 differs")
	case m.Databases != nil && summary.Databases != nil && !maps.Equal(m.Databases, summary.Databases):
		return damaged("the dump has %v, and the manifest says %v", summary.Databases, m.Databases)
	}
	return nil
}

// Dump returns the decrypted dump of a backup that Check has verified.
func Dump(f *os.File, k encrypt.Key) (io.Reader, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	m, err := ReadManifest(f)
	if err != nil {
		return nil, err
	}
	_, size, err := readHeader(f, 1)
	if err != nil {
		return nil, err
	}
	stored := io.LimitReader(f, size)
	if m.Encryption == "" {
		return stored, nil
	}
	return decrypting(stored, m.Encryption, k)
}

// String returns a text for a person, such as "12 keys (3 with a time to live)".
func (c Count) String() string {
	expire := ""
	if c.Expires > 0 {
		expire = fmt.Sprintf(" (%d with a time to live)", c.Expires)
	}
	if c.Keys == 1 {
		return "1 key" + expire
	}
	return fmt.Sprintf("%d keys%s", c.Keys, expire)
}
