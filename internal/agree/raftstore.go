package agree

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// This file implements raft's interfaces for its disk. Each method ends its
// goroutine when the disk fails; see store.

// errNotFound has the text by which raft recognizes a missing key.
var errNotFound = errors.New("not found")

func (s *store) Set(key, val []byte) error {
	s.must(s.update(func(tx *bbolt.Tx) error { return put(tx, votesBucket, key, val) }))
	return nil
}

func (s *store) Get(key []byte) ([]byte, error) {
	var found []byte
	s.must(s.view(func(tx *bbolt.Tx) error {
		val, err := value(tx, votesBucket, key)
		found = bytes.Clone(val)
		return err
	}))
	if found == nil {
		return nil, errNotFound
	}
	return found, nil
}

func (s *store) SetUint64(key []byte, n uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, n))
}

func (s *store) GetUint64(key []byte) (uint64, error) {
	val, err := s.Get(key)
	if err != nil || len(val) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(val), nil
}

func (s *store) FirstIndex() (uint64, error) { return s.edge((*bbolt.Cursor).First), nil }
func (s *store) LastIndex() (uint64, error)  { return s.edge((*bbolt.Cursor).Last), nil }

func (s *store) edge(go_ func(*bbolt.Cursor) (key, value []byte)) (index uint64) {
	s.must(s.view(func(tx *bbolt.Tx) error {
		if key, _ := go_(tx.Bucket(logBucket).Cursor()); key != nil {
			index = binary.BigEndian.Uint64(key)
		}
		return nil
	}))
	return index
}

// GetLog returns an entry of the log. If the log lacks the entry at which its snapshot ends,
// because the snapshot came from another member, GetLog returns an entry without data that has
// the snapshot's term. When a leader sends what follows the snapshot, raft compares this term,
// and looks for it only in the log (hashicorp/raft#205). Otherwise a member that stored the
// first entry after a snapshot, and stopped before it acknowledged the entry, would refuse
// everything from then on.
//
// This made-up entry never goes to another member. Raft first asks for the entry before it,
// and a log that lacks the end of its snapshot has no such entry (dropReplaced, DeleteRange).
func (s *store) GetLog(index uint64, entry *raft.Log) error {
	err := s.view(func(tx *bbolt.Tx) error {
		log := tx.Bucket(logBucket)
		if sealed := log.Get(logKey(index)); sealed != nil {
			found, err := decodeLog(index, sealed)
			*entry = found
			return err
		}
		snapshot, err := readMeta(tx)
		switch {
		case err != nil:
			return err
		case index != snapshot.Index || index < 2 || log.Get(logKey(index-1)) != nil:
			return raft.ErrLogNotFound
		}
		*entry = raft.Log{Index: index, Term: snapshot.Term, Type: raft.LogNoop}
		return nil
	})
	if errors.Is(err, raft.ErrLogNotFound) {
		return raft.ErrLogNotFound
	}
	s.must(err)
	return nil
}

// lastCommand returns the index of the last command in the log, up to the index upTo and
// after the snapshot. It returns 0 if there is none.
func (s *store) lastCommand(upTo uint64) (last uint64, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		snapshot, err := readMeta(tx)
		if err != nil {
			return err
		}
		for index := upTo; index > snapshot.Index; index-- {
			sealed := tx.Bucket(logBucket).Get(logKey(index))
			if sealed == nil {
				return nil
			}
			entry, err := decodeLog(index, sealed)
			if err != nil {
				return err
			}
			if entry.Type == raft.LogCommand {
				last = index
				return nil
			}
		}
		return nil
	})
	return last, err
}

func (s *store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

func (s *store) StoreLogs(entries []*raft.Log) error {
	s.must(s.update(func(tx *bbolt.Tx) error {
		for _, entry := range entries {
			if err := put(tx, logBucket, logKey(entry.Index), encodeLog(entry)); err != nil {
				return err
			}
		}
		return nil
	}))
	return nil
}

// DeleteRange deletes entries, except the one at which the snapshot ends: see GetLog.
func (s *store) DeleteRange(first, last uint64) error {
	s.must(s.update(func(tx *bbolt.Tx) error {
		snapshot, err := readMeta(tx)
		if err != nil {
			return err
		}
		if first <= snapshot.Index && snapshot.Index <= last {
			return errors.Join(deleteEntries(tx, first, snapshot.Index-1), deleteEntries(tx, snapshot.Index+1, last))
		}
		return deleteEntries(tx, first, last)
	}))
	return nil
}

func deleteEntries(tx *bbolt.Tx, first, last uint64) error {
	cursor := tx.Bucket(logBucket).Cursor()
	for key, _ := cursor.Seek(logKey(first)); key != nil && binary.BigEndian.Uint64(key) <= last; key, _ = cursor.Next() {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	return nil
}

func logKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// logHead is the length of what precedes an entry's extensions and data: term,
// type, time, and the length of the extensions.
const logHead = 8 + 1 + 8 + 4

func encodeLog(entry *raft.Log) []byte {
	b := make([]byte, 0, logHead+len(entry.Extensions)+len(entry.Data))
	b = binary.BigEndian.AppendUint64(b, entry.Term)
	b = append(b, byte(entry.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(entry.AppendedAt.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(entry.Extensions)))
	b = append(b, entry.Extensions...)
	return append(b, entry.Data...)
}

// decodeLog returns an entry that shares no memory with sealed.
func decodeLog(index uint64, sealed []byte) (raft.Log, error) {
	b, err := unseal(sealed)
	if err != nil || len(b) < logHead || int(binary.BigEndian.Uint32(b[17:])) > len(b)-logHead {
		return raft.Log{}, fmt.Errorf("entry %d of the log makes no sense", index)
	}
	data := bytes.Clone(b[logHead:])
	extensions := binary.BigEndian.Uint32(b[17:])
	return raft.Log{
		Index: index, Term: binary.BigEndian.Uint64(b), Type: raft.LogType(b[8]),
		AppendedAt: time.Unix(0, int64(binary.BigEndian.Uint64(b[9:]))),
		Extensions: data[:extensions:extensions], Data: data[extensions:],
	}, nil
}

// sink collects a snapshot in memory, whose size the limits of the documents
// bound. Close replaces the old snapshot in one write.
type sink struct {
	bytes.Buffer
	store *store
	meta  raft.SnapshotMeta
}

func (s *store) Create(version raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{store: s, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term,
		Configuration: members, ConfigurationIndex: membersIndex,
	}}, nil
}

func (k *sink) ID() string    { return k.meta.ID }
func (k *sink) Cancel() error { return nil }

func (k *sink) Close() error {
	k.store.must(k.store.update(func(tx *bbolt.Tx) error {
		// A member can take its own snapshot while it receives one. The newer one stays.
		if stored, err := readMeta(tx); err != nil || stored.Index > k.meta.Index {
			return err
		}
		return errors.Join(putSnapshot(tx, k.meta, k.Bytes()), dropReplaced(tx, k.meta))
	}))
	return nil
}

// dropReplaced deletes the entries that a snapshot from another member replaces: all up
// to the snapshot's last index, if the log has another entry there, or none. Raft itself
// would keep them, and because of them refuse what follows the snapshot
// (hashicorp/raft#697).
func dropReplaced(tx *bbolt.Tx, snapshot raft.SnapshotMeta) error {
	if sealed := tx.Bucket(logBucket).Get(logKey(snapshot.Index)); sealed != nil {
		last, err := decodeLog(snapshot.Index, sealed)
		if err != nil || last.Term == snapshot.Term {
			return err
		}
	}
	return deleteEntries(tx, 0, snapshot.Index)
}

func putSnapshot(tx *bbolt.Tx, meta raft.SnapshotMeta, data []byte) error {
	meta.Size = int64(len(data))
	encoded, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	return errors.Join(put(tx, snapshotBucket, metaKey, encoded), put(tx, snapshotBucket, dataKey, data))
}

// readMeta returns the metadata of the snapshot; its Index is 0 if there is none.
func readMeta(tx *bbolt.Tx) (meta raft.SnapshotMeta, err error) {
	encoded, err := value(tx, snapshotBucket, metaKey)
	if err == nil && encoded != nil {
		err = json.Unmarshal(encoded, &meta)
	}
	return meta, err
}

func (s *store) List() (found []*raft.SnapshotMeta, _ error) {
	s.must(s.view(func(tx *bbolt.Tx) error {
		meta, err := readMeta(tx)
		if err == nil && meta.Index > 0 {
			found = append(found, &meta)
		}
		return err
	}))
	return found, nil
}

func (s *store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	var meta raft.SnapshotMeta
	var data []byte
	s.must(s.view(func(tx *bbolt.Tx) (err error) {
		if meta, err = readMeta(tx); err != nil {
			return err
		}
		stored, err := value(tx, snapshotBucket, dataKey)
		data = bytes.Clone(stored)
		return err
	}))
	if meta.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s has been replaced by %s", id, meta.ID)
	}
	return &meta, io.NopCloser(bytes.NewReader(data)), nil
}

// termKey is raft's key for its term, in votesBucket.
var termKey = []byte("CurrentTerm")

// firstIndex is the index of the snapshot that a stack begins with. It is not 1, for which
// GetLog could not make up an entry.
const firstIndex = 2

// begin makes this member the first one of a stack: it writes a snapshot with the
// documents and with this member as the only voter. It fails if the file is that of
// a member already.
func (s *store) begin(address string, documents []byte) error {
	return s.update(func(tx *bbolt.Tx) error {
		term, err := value(tx, votesBucket, termKey)
		switch {
		case err != nil:
			return err
		case len(term) == 8 && binary.BigEndian.Uint64(term) > 0:
			return fmt.Errorf("%s is a member's already", s.path)
		}
		first := raft.SnapshotMeta{
			Version: 1, ID: fmt.Sprintf("1-%d", firstIndex), Index: firstIndex, Term: 1, ConfigurationIndex: firstIndex,
			Configuration: raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(s.id), Address: raft.ServerAddress(address)}}},
		}
		return errors.Join(
			put(tx, votesBucket, termKey, binary.BigEndian.AppendUint64(nil, 1)),
			putSnapshot(tx, first, documents))
	})
}
