package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"holdfast/internal/encrypt"
)

// Write writes a backup of a dump to an empty file, and returns the manifest with what it
// has found in the dump. Complete is called when the dump has been read, to set the fields
// that were not known before. Secrets are written only if the backup is encrypted. The dump
// is checked on its way: it is an error if it is damaged or cut off. The file is synced.
// After an error, the caller has to remove it.
//
// Write reads the dump only when everything else is ready, so that its sender is not kept
// waiting. For example, deriving a key from a passphrase takes a while.
func Write(f *os.File, dump io.Reader, m Manifest, e encrypt.Encryption, secrets []byte, complete func(*Manifest)) (Manifest, error) {
	w := &archiveWriter{f: f, at: m.Begun}
	m.Format, m.Encryption = Format, e.Kind

	// The manifest and the header of the dump are written last, at these places, because they
	// are known only after the dump.
	const manifestAt = 0
	dumpHeaderAt := int64(block + manifestSize)
	w.offset = dumpHeaderAt + block
	if _, err := f.Seek(w.offset, io.SeekStart); err != nil {
		return m, err
	}
	out := bufio.NewWriterSize(f, 1<<20)

	stored := newCounter()
	plain := newCounter()
	summary, err := copyDump(e, io.MultiWriter(out, stored), dump, plain)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return m, err
	}

	complete(&m)
	m.Dump, m.Memory = plain.contents(), summary.Memory
	m.Databases, m.Uncounted = summary.Databases, summary.Uncounted
	m.Versions.Redis, m.Versions.RDB = summary.Redis, summary.Version

	dumpName := memberDump
	if !e.None() {
		dumpName += encryptedEnd
	}

	manifest, err := m.encode()
	if err != nil {
		return m, err
	}

	w.put(manifestAt, memberManifest, manifest)
	w.headerOf(dumpHeaderAt, dumpName, stored.contents())
	end := w.pad(w.offset+stored.bytes, stored.bytes)
	if !e.None() && len(secrets) > 0 {
		hidden, err := seal(e, secrets)
		if err != nil {
			return m, err
		}
		end = w.put(end, memberSecrets, hidden)
	}
	end = w.put(end, memberSums, []byte(sums(w.members)))
	w.write(end, make([]byte, archiveEnd))
	if w.err == nil {
		w.err = f.Sync()
	}
	return m, w.err
}

// copyDump copies a dump to w, encrypted by e, and scans it on the way.
func copyDump(e encrypt.Encryption, w io.Writer, dump io.Reader, plain *counter) (Summary, error) {
	enc, err := e.Writer(w)
	if err != nil {
		return Summary{}, err
	}
	summary, err := Scan(io.TeeReader(dump, io.MultiWriter(enc, plain)))
	return summary, errors.Join(err, enc.Close())
}

func seal(e encrypt.Encryption, secrets []byte) ([]byte, error) {
	var b sliceWriter
	enc, err := e.Writer(&b)
	if err != nil {
		return nil, err
	}
	_, err = enc.Write(secrets)
	return b, errors.Join(err, enc.Close())
}

type sliceWriter []byte

func (b *sliceWriter) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// archiveWriter writes the members of a backup at their offsets in the file. After the
// first error it does nothing.
type archiveWriter struct {
	f       *os.File
	at      time.Time
	offset  int64 // where the dump begins
	members []member
	err     error
}

// put writes a member at an offset, and returns the offset after it.
func (w *archiveWriter) put(at int64, name string, content []byte) int64 {
	sum := newCounter()
	sum.Write(content)
	w.headerOf(at, name, sum.contents())
	w.write(at+block, content)
	return w.pad(at+block+int64(len(content)), int64(len(content)))
}

func (w *archiveWriter) headerOf(at int64, name string, c Contents) {
	h, err := header(name, c.Bytes, w.at)
	if w.err == nil {
		w.err = err
	}
	w.write(at, h)
	w.members = append(w.members, member{name, c})
}

// pad writes the padding of a member of a size that ends at an offset, and returns the
// offset of the next member.
func (w *archiveWriter) pad(at, size int64) int64 {
	n := padding(size)
	w.write(at, make([]byte, n))
	return at + n
}

func (w *archiveWriter) write(at int64, b []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.f.WriteAt(b, at); err != nil {
		w.err = fmt.Errorf("write the backup: %w", err)
	}
}
