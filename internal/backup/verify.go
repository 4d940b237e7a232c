package backup

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"

	"holdfast/internal/encrypt"
)

// Verify verifies a backup as deep as it can be: its bytes, the structure of its dump,
// and by loading the dump into a Redis server of its own, which takes the memory that
// the data needs. see is called with that server before it ends; it may be nil.
// Without a key, what is encrypted is compared with its checksum alone.
func Verify(ctx context.Context, f *os.File, k encrypt.Key, program string, see func(*Server) error) (Manifest, Depth, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Manifest{}, "", err
	}
	m, depth, err := Check(f, k)
	if err != nil || depth == Bytes {
		return m, depth, err
	}
	dump, err := Dump(f, k)
	if err != nil {
		return m, depth, err
	}
	if err := m.load(ctx, dump, program, see); err != nil {
		return m, depth, err
	}
	return m, Loaded, nil
}

// VerifyDump has a Redis server load the dump of a backup whose bytes are right, and compares
// what it has then with the manifest.
func VerifyDump(ctx context.Context, m Manifest, dump io.Reader, program string) error {
	return m.load(ctx, dump, program, nil)
}

func (m Manifest) load(ctx context.Context, dump io.Reader, program string, see func(*Server) error) error {
	server, err := Load(ctx, program, dump)
	if err != nil {
		return err
	}
	defer server.Close()
	counts, err := server.Counts()
	if err == nil && m.Databases != nil && !maps.Equal(counts, m.Databases) {
		err = damaged("Redis has loaded %v from the dump, and the manifest says %v", counts, m.Databases)
	}
	if err == nil && see != nil {
		err = see(server)
	}
	if err != nil {
		return err
	}
	return server.Close()
}

// Unloadable reports whether an error is a Redis server's refusal of a dump: it is
// older than the one that made it, or lacks a module.
func Unloadable(err error) bool { return errors.As(err, new(*LoadError)) }
