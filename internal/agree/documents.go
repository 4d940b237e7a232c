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

// Document is one document. Data is a copy that the reader may change.
type Document struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
	// Revision is that of the document's last write. A later write has a higher
	// revision, across all documents.
	Revision uint64 `json:"revision"`
	// Stale is true for this member's own copy; the leader may have a newer one.
	Stale bool `json:"-"`
}

// Event is a change of one document. For a deletion, Data is empty.
type Event struct {
	Document
	Deleted bool
}

// compactAfter is after how many bytes of changes a snapshot is taken, however
// few changes they are. It bounds the size of the file.
const compactAfter = 4 << 20

// documents is the state that the log's entries produce: the same on each member
// that has carried out the same entries. It implements raft.FSM; raft calls Apply,
// Snapshot and Restore from one goroutine.
type documents struct {
	fail    func(error) // called for an entry that cannot be carried out
	compact func()      // called when a snapshot is due, at most once for each

	mu                 sync.Mutex
	byName             map[string]Document
	size               int
	appliedIndex       uint64 // index of the last entry that was carried out
	bytesSinceSnapshot int    // bytes since the last snapshot
	watchers           map[*watcher]struct{}
}

func newDocuments(fail func(error), compact func()) *documents {
	return &documents{fail: fail, compact: compact, byName: map[string]Document{}, watchers: map[*watcher]struct{}{}}
}

// result is the outcome of an entry.
type result struct {
	term     uint64 // of the log, when it took the entry
	revision uint64
	err      error
}

// Apply carries an entry out. The outcome must be the same on every member, so it
// may depend on nothing but the entry and the documents.
func (d *documents) Apply(entry *raft.Log) any {
	if entry.Type != raft.LogCommand {
		return nil
	}
	c, err := decodeCommand(entry.Data)
	if err != nil {
		d.fail(err)
		runtime.Goexit() // later entries must not be carried out
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.appliedIndex = entry.Index
	r := result{term: entry.Term, revision: entry.Index}
	if len(c.Changes) > 0 {
		r.err = d.change(c, entry)
	}
	if before := d.bytesSinceSnapshot; before < compactAfter {
		if d.bytesSinceSnapshot += len(entry.Data); d.bytesSinceSnapshot >= compactAfter {
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

// carriedOut returns the index of the last entry that was carried out. It is 0 if
// none was carried out since the snapshot that was there at the start.
func (d *documents) carriedOut() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.appliedIndex
}

func (d *documents) get(name string) (Document, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, there := d.byName[name]
	doc.Data = bytes.Clone(doc.Data)
	return doc, there
}

// list returns the documents whose names begin with the prefix, sorted by name.
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

// image is the content of a snapshot: all documents.
type image struct {
	Version   int        `json:"version"`
	Documents []Document `json:"documents"`
}

// Snapshot returns the present documents. Writing it out can go on beside later
// changes, because documents are replaced and never modified.
func (d *documents) Snapshot() (raft.FSMSnapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytesSinceSnapshot = 0
	return image{commandVersion, slices.Collect(maps.Values(d.byName))}, nil
}

func (i image) Persist(sink raft.SnapshotSink) error { return json.NewEncoder(sink).Encode(i) }
func (i image) Release()                             {}

// Restore replaces the documents by those of a snapshot, and tells the watchers
// what has changed by that.
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
	d.byName, d.size, d.bytesSinceSnapshot = map[string]Document{}, 0, 0
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

// watcher is a reader of Watch.
type watcher struct{ events chan []Event }

// watcherRoom is how many writes a watcher may be behind before it is dropped.
const watcherRoom = 256

// watch returns the documents and a channel of all later changes; the changes of
// one write come together. The channel is closed when the context ends, and when
// its reader is more than watcherRoom writes behind.
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

// tell sends events to the watchers, and drops those that are too slow. The caller
// holds d.mu.
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

// firstImage returns the snapshot with which the first member of a stack begins.
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
