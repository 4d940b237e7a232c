package agree

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"holdfast/internal/private"
)

// fileName is the name of the only file in a member's directory.
const fileName = "agree.db"

// stallAfter is how long a write to the disk may take before the member gives up
// its leadership.
const stallAfter = 3 * time.Second

var (
	memberBucket   = []byte("member")   // the identity
	votesBucket    = []byte("votes")    // term and vote
	logBucket      = []byte("log")      // entries, by index
	snapshotBucket = []byte("snapshot") // the newest one

	idKey   = []byte("id")
	metaKey = []byte("meta")
	dataKey = []byte("data")
)

// store is a member's file. It has the log, the votes and the snapshot in one
// file, so that writes across them are atomic, and so that no part can be that of
// another member. Each value has a checksum; bbolt has checksums only for pages of
// its own.
//
// It implements raft.LogStore, raft.StableStore and raft.SnapshotStore. When its
// disk fails, raft would panic and end the whole program. So a failed call reports
// the failure and ends the goroutine of raft that made it (must). Then the member
// is of no use any more, and Member stops it.
type store struct {
	db   *bbolt.DB
	path string
	id   string

	fail    func(error)  // called with the first failure, once raft runs
	stalled func(bool)   // called with true when a write takes longer than stallAfter, with false when it ends
	before  func() error // called before each write; for tests

	broken atomic.Bool
}

// openStore opens the file of a member's directory, and makes both if they do not
// exist. A new file gets an identity of its own. openStore reads the whole file, to
// find damage before the member takes part in anything.
func openStore(dir, name string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := private.CheckDir(dir); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}

	s := &store{path: filepath.Join(dir, fileName), fail: func(error) {}, stalled: func(bool) {}, before: func() error { return nil }}
	err := s.open(name)
	if err == nil {
		err = s.verify()
	}
	if err == nil {
		err = syncDir(dir)
	}

	if err != nil {
		if s.db != nil {
			s.db.Close()
		}
		return nil, err
	}
	return s, nil
}

func (s *store) open(name string) error {
	var file *os.File
	err := guarded(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
			OpenFile: func(path string, flags int, _ os.FileMode) (f *os.File, err error) {
				file, err = private.Open(path, flags)
				return file, err
			},
		})
		return err
	})

	var wrong *private.Error
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("%s is in use by another process: one member of a stack can run on a host", s.path)
	case errors.As(err, &wrong), errors.Is(err, os.ErrPermission):
		return err
	case err != nil:
		if file != nil {
			// If bbolt panicked, it left the file mapped, and the mapping keeps the lock.
			unix.Flock(int(file.Fd()), unix.LOCK_UN)
			file.Close()
		}
		return s.damage(err)
	}

	return s.update(func(tx *bbolt.Tx) error {
		for _, bucket := range [][]byte{memberBucket, votesBucket, logBucket, snapshotBucket} {
			if _, err := tx.CreateBucketIfNotExists(bucket); err != nil {
				return err
			}
		}
		id, err := value(tx, memberBucket, idKey)
		if err != nil {
			return err
		}
		if id == nil {
			incarnation := make([]byte, 8)
			rand.Read(incarnation)
			id = []byte(name + "/" + hex.EncodeToString(incarnation))
			if err := put(tx, memberBucket, idKey, id); err != nil {
				return err
			}
		}
		s.id = string(id)
		return nil
	})
}

// verify reads every value and returns an error if one is damaged, or if the log
// has a gap, at which raft would panic.
func (s *store) verify() error {
	return s.view(func(tx *bbolt.Tx) error {
		if info, err := os.Stat(s.path); err != nil || info.Size() < tx.Size() {
			return fmt.Errorf("it is cut short: %w", cmp.Or(err, io.ErrUnexpectedEOF))
		}

		for _, name := range [][]byte{memberBucket, votesBucket, snapshotBucket} {
			err := tx.Bucket(name).ForEach(func(_, sealed []byte) error {
				_, err := unseal(sealed)
				return err
			})
			if err != nil {
				return err
			}
		}

		snapshot, err := readMeta(tx)
		if err != nil {
			return err
		}

		next := snapshot.Index + 1
		return tx.Bucket(logBucket).ForEach(func(key, sealed []byte) error {
			index := binary.BigEndian.Uint64(key)
			if index >= next {
				if index != next {
					return fmt.Errorf("entry %d of the log is missing", next)
				}
				next++
			}
			_, err := decodeLog(index, sealed)
			return err
		})
	})
}

// close closes the file. Raft must have stopped before.
func (s *store) close() error { return guarded(s.db.Close) }

func (s *store) damage(err error) error {
	return fmt.Errorf("the file of what the hosts agree on, %s, is %w (%v): remove this host's member at the leader, delete the directory and add it anew", s.path, ErrDamaged, err)
}

// errSenseless is the error for a file whose pages make no sense.
var errSenseless = errors.New("its pages make no sense")

// guarded turns a panic into an error. Bbolt panics on pages that make no sense,
// and reading a mapped file that is shorter than it should be is a memory fault.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errSenseless, p)
		}
	}()
	return do()
}

func (s *store) view(do func(*bbolt.Tx) error) error {
	if err := guarded(func() error { return s.db.View(do) }); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return s.damage(err)
	} else {
		return err
	}
}

// update runs a write transaction. When it returns nil, the write is on the disk.
func (s *store) update(do func(*bbolt.Tx) error) error {
	defer s.watchStall()()
	err := s.before()
	if err == nil {
		err = guarded(func() error { return s.db.Update(do) })
	}
	switch {
	case errors.Is(err, errSenseless): // a write also reads pages
		return s.damage(err)
	case err != nil:
		return fmt.Errorf("cannot write %s: %w", s.path, err)
	}
	return nil
}

// watchStall calls s.stalled if a write does not end within stallAfter. The
// function that it returns marks the end of the write.
func (s *store) watchStall() (end func()) {
	var mu sync.Mutex
	ended, late := false, false
	timer := time.AfterFunc(stallAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			late = true
			s.stalled(true)
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		ended = true
		if late {
			s.stalled(false)
		}
	}
}

// must ends the calling goroutine if err is not nil, or if an earlier call has
// failed: see store.
func (s *store) must(err error) {
	if err != nil && s.broken.CompareAndSwap(false, true) {
		s.fail(err)
	}
	if err != nil || s.broken.Load() {
		runtime.Goexit()
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum before a value, and unseal takes it off.
func seal(value []byte) []byte {
	sealed := make([]byte, 4, 4+len(value))
	binary.BigEndian.PutUint32(sealed, crc32.Checksum(value, castagnoli))
	return append(sealed, value...)
}

func unseal(sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != crc32.Checksum(sealed[4:], castagnoli) {
		return nil, errors.New("a checksum does not fit")
	}
	return sealed[4:], nil
}

// value returns the value of a key, or nil if there is none. It is valid only
// within the transaction.
func value(tx *bbolt.Tx, bucket, key []byte) ([]byte, error) {
	sealed := tx.Bucket(bucket).Get(key)
	if sealed == nil {
		return nil, nil
	}
	return unseal(sealed)
}

func put(tx *bbolt.Tx, bucket, key, value []byte) error {
	return tx.Bucket(bucket).Put(key, seal(value))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
