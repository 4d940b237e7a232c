package agree

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// Document is one of the documents. Its Data is the reader's own.
type Document struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
	// Revision is higher the later the document was written, over all documents.
	Revision uint64 `json:"revision"`
	// Stale: it comes from this member alone, and the leader may have a newer one.
	Stale bool `json:"-"`
}

// Event is a change of one document. After a deletion it has the name alone.
type Event struct {
	Document
	Deleted bool
}

// compactAfter is how many bytes of changes may pass until a snapshot is taken,
// whatever their number: it bounds the file.
const compactAfter = 4 << 20

// documents is what the log makes: the same on each member that has carried out
// the same entries. It implements raft.FSM; raft calls Apply, Snapshot and
// Restore from one goroutine.
type documents struct {
	fail    func(error) // told of an entry that cannot be carried out
	compact func()      // told, at most once for each snapshot, that one is due

	mu       sync.Mutex
	byName   map[string]Document
	size     int
	carried  uint64 // index of the last entry that was carried out
	passed   int    // bytes since the last snapshot
	watchers map[*watcher]struct{}
}

func newDocuments(fail func(error), compact func()) *documents {
	return &documents{fail: fail, compact: compact, byName: map[string]Document{}, watchers: map[*watcher]struct{}{}}
}

// result is what an entry came to.
type result struct {
	term     uint64 // of the log, when it took the entry
	revision uint64
	err      error
}

// Apply carries an entry out. It must come to the same on every member: nothing
// but the entry and the documents may count.
func (d *documents) Apply(entry *raft.Log) any {
	if entry.Type != raft.LogCommand {
		return nil
	}
	c, err := decodeCommand(entry.Data)
	if err != nil {
		d.fail(err)
		runtime.Goexit() // what comes after it must not be carried out
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.carried = entry.Index
	r := result{term: entry.Term, revision: entry.Index}
	if len(c.Changes) > 0 {
		r.err = d.change(c, entry)
	}
	if before := d.passed; before < compactAfter {
		if d.passed += len(entry.Data); d.passed >= compactAfter {
			d.compact()
		}
	}
	return r
}

// change makes all of a command's changes or none. The caller holds d.mu.
func (d *documents) change(c command, entry *raft.Log) error {
	if c.Term != entry.Term {
		return fmt.Errorf("written by the leader of term %d, and term %d has begun: %w", c.Term, entry.Term, ErrNotLeader)
	}
	if err := validate(c.Changes); err != nil {
		return err
	}
	next, size := maps.Clone(d.byName), d.size
	var events []Event
	for _, change := range c.Changes {
		old, there := next[change.Name]
		if change.Revision != AnyRevision && change.Revision != old.Revision {
			return &ConflictError{Name: change.Name, Want: change.Revision, Have: old.Revision}
		}
		if there {
			size -= len(old.Name) + len(old.Data)
		}
		if change.Delete {
			delete(next, change.Name)
			if there {
				events = append(events, Event{Document{Name: change.Name, Revision: entry.Index}, true})
			}
			continue
		}
		doc := Document{Name: change.Name, Data: change.Data, Revision: entry.Index}
		next[change.Name] = doc
		size += len(doc.Name) + len(doc.Data)
		events = append(events, Event{Document: doc})
	}
	if size > MaxAll && size > d.size {
		return fmt.Errorf("all documents would have %d bytes and may have %d: delete some first: %w", size, MaxAll, ErrTooLarge)
	}
	d.byName, d.size = next, size
	d.tell(events)
	return nil
}

// carriedOut returns the index of the last entry that was carried out; 0: none since the
// snapshot that was there at the start.
func (d *documents) carriedOut() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.carried
}

func (d *documents) get(name string) (Document, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, there := d.byName[name]
	doc.Data = bytes.Clone(doc.Data)
	return doc, there
}

// list returns the documents whose names begin with the prefix, by name.
func (d *documents) list(prefix string) []Document {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sorted(prefix)
}

func (d *documents) sorted(prefix string) []Document {
	var found []Document
	for _, name := range slices.Sorted(maps.Keys(d.byName)) {
		if strings.HasPrefix(name, prefix) {
			doc := d.byName[name]
			doc.Data = bytes.Clone(doc.Data)
			found = append(found, doc)
		}
	}
	return found
}

// image is the documents as a snapshot has them.
type image struct {
	Version   int        `json:"version"`
	Documents []Document `json:"documents"`
}

// Snapshot is what the documents are now: they are replaced and never changed,
// so it can be written while others are made.
func (d *documents) Snapshot() (raft.FSMSnapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passed = 0
	return image{commandVersion, slices.Collect(maps.Values(d.byName))}, nil
}

func (i image) Persist(sink raft.SnapshotSink) error { return json.NewEncoder(sink).Encode(i) }
func (i image) Release()                             {}

// Restore puts a snapshot in the documents' place. Watchers are told what that
// changes.
func (d *documents) Restore(from io.ReadCloser) error {
	defer from.Close()
	var i image
	err := json.NewDecoder(from).Decode(&i)
	if err == nil && i.Version != commandVersion {
		err = unknownVersion(i.Version)
	}
	if err != nil {
		err = fmt.Errorf("a snapshot of the documents cannot be read: %w", err)
		d.fail(err)
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.byName
	d.byName, d.size, d.passed = map[string]Document{}, 0, 0
	var events []Event
	for _, doc := range i.Documents {
		d.byName[doc.Name] = doc
		d.size += len(doc.Name) + len(doc.Data)
		if old[doc.Name].Revision != doc.Revision {
			events = append(events, Event{Document: doc})
		}
	}
	for name := range old {
		if _, there := d.byName[name]; !there {
			events = append(events, Event{Document{Name: name}, true})
		}
	}
	d.tell(events)
	return nil
}

// watcher is one who wants to hear of changes.
type watcher struct{ events chan []Event }

// watcherRoom is how many writes a watcher may be behind before it is dropped.
const watcherRoom = 256

// watch returns the documents and all that happens to them afterwards; what one
// write changed comes together. The channel is closed when the context ends and
// when its reader is too slow: nobody waits for it.
func (d *documents) watch(ctx context.Context) ([]Document, <-chan []Event) {
	w := &watcher{make(chan []Event, watcherRoom)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.drop(w)
	})
	return d.sorted(""), w.events
}

// tell hands events to the watchers. The caller holds d.mu.
func (d *documents) tell(events []Event) {
	if len(events) == 0 {
		return
	}
	for w := range d.watchers {
		own := slices.Clone(events)
		for i := range own {
			own[i].Data = bytes.Clone(own[i].Data)
		}
		select {
		case w.events <- own:
		default:
			d.drop(w)
		}
	}
}

func (d *documents) drop(w *watcher) {
	if _, there := d.watchers[w]; there {
		delete(d.watchers, w)
		close(w.events)
	}
}

// firstImage is the snapshot that a stack of one host begins with.
func firstImage(initial map[string][]byte) ([]byte, error) {
	d, errs := newDocuments(nil, nil), []error(nil)
	for name, data := range initial {
		errs = append(errs, validate([]Change{{Name: name, Data: data}}))
		d.byName[name] = Document{Name: name, Data: data, Revision: 1}
		d.size += len(name) + len(data)
	}
	if d.size > MaxAll {
		errs = append(errs, fmt.Errorf("all documents have %d bytes and may have %d: %w", d.size, MaxAll, ErrTooLarge))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(image{commandVersion, d.sorted("")})
}

func (d *documents) closeWatchers() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.watchers {
		d.drop(w)
	}
}
