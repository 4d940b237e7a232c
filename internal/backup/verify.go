package backup

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"

	"holdfast/internal/encrypt"
)

// Verify verifies a backup as thoroughly as possible: its bytes, the structure of its
// dump, and by loading the dump into a Redis server of its own, which needs as much
// memory as the data. See, which may be nil, is called with that server before it ends.
// An encrypted backup without a key is only compared with its checksums.
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

// VerifyDump loads the dump of a backup, whose bytes were verified before, into a Redis
// server, and compares the server's keys with the manifest.
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

// Unloadable reports whether an error means that a Redis server cannot load a dump, for
// example because it is older than the server that made it, or lacks a module.
func Unloadable(err error) bool { return errors.As(err, new(*LoadError)) }
