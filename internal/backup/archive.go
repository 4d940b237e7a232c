package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

// Names of the members of a backup.
const (
	memberManifest = "manifest.json"
	memberDump     = "dump.rdb"
	memberSecrets  = "stack.json.age"
	memberSums     = "SHA256SUMS"
	encryptedEnd   = ".age"
)

// block is the unit of a tar archive, in bytes. A header is one block.
const block = 512

// archiveEnd is how many zero bytes end an archive.
const archiveEnd = 2 * block

// header returns the header of a member. It depends only on the arguments, so a
// reader can compare every byte of a header with it.
func header(name string, size int64, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: at.UTC().Truncate(time.Second), Format: tar.FormatGNU})
	if err == nil && b.Len() != block {
		err = fmt.Errorf("the header of %s has %d bytes", name, b.Len())
	}
	return b.Bytes(), err
}

// padding returns how many zero bytes follow a member of a size.
func padding(size int64) int64 { return (block - size%block) % block }

// member is a member of the archive that has been read or written.
type member struct {
	name string
	Contents
}

// sums returns the content of SHA256SUMS.
func sums(members []member) string {
	var b strings.Builder
	for _, m := range members {
		fmt.Fprintf(&b, "%s  %s\n", m.SHA256, m.name)
	}
	return b.String()
}

// counter counts the bytes that are written to it, and computes their SHA-256.
type counter struct {
	hash.Hash
	bytes int64
}

func newCounter() *counter { return &counter{Hash: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return c.Hash.Write(p)
}

func (c *counter) contents() Contents {
	return Contents{c.bytes, hex.EncodeToString(c.Sum(nil))}
}

// readArchive reads a backup from its first byte to its last, and calls visit with the
// content of each member; visit need not read all of it. Every byte is checked: a header
// against the one that header returns, padding against zeros, content against
// SHA256SUMS. So the content that visit reads is only certain once readArchive has
// returned nil.
func readArchive(r io.Reader, visit func(name string, size int64, content io.Reader) error) error {
	var seen []member
	for n := 0; ; n++ {
		name, size, err := readHeader(r, n)
		if err != nil {
			return err
		}

		sum := newCounter()
		content := io.TeeReader(io.LimitReader(r, size), sum)
		var text strings.Builder

		switch {
		case name == memberSums && size > 4<<10:
			return damaged("the checksums are too long")
		case name == memberSums:
			_, err = io.Copy(&text, content)
		default:
			err = visit(name, size, content)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, content)
		}
		switch {
		case err != nil:
			return err
		case sum.bytes < size:
			return damaged("the file is cut off in %s", name)
		}

		if err := readZeros(r, padding(size), "after "+name); err != nil {
			return err
		}

		if name != memberSums {
			seen = append(seen, member{name, sum.contents()})
			continue
		}
		if err := compareSums(seen, text.String()); err != nil {
			return err
		}
		return readEnd(r)
	}
}

// expected are the members in their order. stack.json.age may be missing.
var expected = []string{memberManifest, memberDump, memberSecrets, memberSums}

// readHeader reads the header of the nth member, counted from 0.
func readHeader(r io.Reader, n int) (name string, size int64, err error) {
	b := make([]byte, block)
	got, err := io.ReadFull(r, b)
	if n == 0 && !startsAsBackup(b[:got]) {
		return "", 0, foreign(b[:got])
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "", 0, damaged("the file is cut off: it ends where its member %d begins", n+1)
	}
	if err != nil {
		return "", 0, err
	}
	h, err := tar.NewReader(bytes.NewReader(b)).Next()
	if err != nil {
		return "", 0, damaged("the header of member %d is damaged", n+1)
	}
	plain := strings.TrimSuffix(h.Name, encryptedEnd)
	known := n < len(expected) && (expected[n] == h.Name || n == 1 && plain == memberDump || n == 2 && h.Name == memberSums)
	same, err := header(h.Name, h.Size, h.ModTime)
	if err != nil || !known || !bytes.Equal(same, b) {
		return "", 0, damaged("the header of member %d is damaged", n+1)
	}
	return h.Name, h.Size, nil
}

// startsAsBackup reports whether the first bytes are those of a backup, which may be
// damaged: the name of the first member, with at most one wrong byte.
func startsAsBackup(b []byte) bool {
	name := []byte(memberManifest + "\x00")
	b = b[:min(len(b), len(name))]
	wrong := 0
	for i := range b {
		if b[i] != name[i] {
			wrong++
		}
	}
	return len(b) > 0 && wrong <= 1 && wrong < len(b)
}

// foreign returns a *ForeignError that tells what the file is instead of a backup.
func foreign(b []byte) error {
	what := "it does not begin as one"
	switch {
	case len(b) == 0:
		what = "it is empty"
	case bytes.HasPrefix(b, []byte("REDIS")):
		what = "it is a plain Redis dump"
	case bytes.HasPrefix(b, []byte("age-encryption.org/")) || bytes.HasPrefix(b, []byte("-----BEGIN AGE")):
		what = "it is a file that age encrypted"
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		what = "it is a gzip file"
	}
	return &ForeignError{"it is no backup of Holdfast: " + what}
}

func readZeros(r io.Reader, n int64, where string) error {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); errors.Is(err, io.EOF) && n > 0 || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("the file is cut off %s", where)
	} else if err != nil && n > 0 {
		return err
	}
	if bytes.Count(b, []byte{0}) != len(b) {
		return damaged("there are bytes that do not belong there %s", where)
	}
	return nil
}

func readEnd(r io.Reader) error {
	if err := readZeros(r, archiveEnd, "at its end"); err != nil {
		return err
	}
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n > 0:
		return damaged("the file goes on after its end")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func compareSums(seen []member, text string) error {
	if sums(seen) == text {
		return nil
	}
	for _, m := range seen {
		if !strings.Contains(text, m.SHA256+"  "+m.name+"\n") {
			return damaged("%s is damaged: its SHA-256 is not the one in %s", m.name, memberSums)
		}
	}
	return damaged("%s is damaged", memberSums)
}
