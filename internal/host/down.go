package host

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"holdfast/internal/agree"
)

// A stack that is taken down is down on all hosts: the leader stops the nodes, and then has
// the hosts agree that all of them end.

// downDocument says that the stack was taken down. The next leader that begins later removes
// it.
const downDocument = "down"

// taken is the document of a stack that was taken down.
type taken struct {
	// Term is that of the leader that took it down.
	Term uint64 `json:"term"`
	// Purge is true where the data of all hosts was removed before. Such a stack is never up
	// again: each host that hears of it removes what makes it one.
	Purge bool `json:"purge,omitempty"`
}

// Down is closed when the stack was taken down while this host was up: its process is to
// end.
func (h *Host) Down() <-chan struct{} { return h.down }

// Purged reports, once Down is closed, whether the stack is no more: this host is to remove
// what makes it one of the stack (Leave).
func (h *Host) Purged() bool { return h.purged.Load() }

// end has all hosts end. Purge has them remove what makes them hosts of a stack.
func (h *Host) end(ctx context.Context, term uint64, purge bool) error {
	text, err := json.Marshal(taken{term, purge})
	if err != nil {
		return err
	}
	if _, err = h.member.Put(ctx, term, downDocument, text, agree.AnyRevision); err != nil {
		return err
	}
	h.awaitHeard(ctx)
	h.ends(purge)
	return nil
}

func (h *Host) ends(purge bool) {
	h.downOnce.Do(func() {
		h.purged.Store(purge)
		close(h.down)
	})
}

// probeAgain is for how long a host that does not answer is asked again: it may be slow, and of
// two hosts nobody else would tell it.
const probeAgain = 2 * time.Second

// awaitHeard waits until all hosts that answer have what was agreed on: without a leader
// they would not hear of it any more.
func (h *Host) awaitHeard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	sure := h.member.Status().Applied
	var asked sync.WaitGroup
	for _, peer := range h.member.Members() {
		if peer.ID == h.member.ID() {
			continue
		}
		asked.Go(func() {
			answered := time.Now()
			for {
				p, err := h.member.Probe(ctx, peer)
				if err == nil {
					answered = time.Now()
				}
				if err == nil && p.Applied >= sure || time.Since(answered) > probeAgain {
					return // it knows, or is away, or has ended already
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	asked.Wait()
}

// takenSince reports whether a document was written after this host was opened. One that
// its log had then is of a stack that is up again. Clocks are not asked: those of two hosts
// may differ by more than there is between a down and an up.
func (h *Host) takenSince(doc agree.Document) bool { return doc.Revision > h.opened }

// hearDown ends this host's part when the stack was taken down.
//
// A host that was cut off hears of a down together with what came after it. So the word of
// the leader counts that leads now: a later one than that of the document removes it, or
// takes the stack down anew (mayLead).
func (h *Host) hearDown(e agree.Event) {
	var t taken
	if e.Deleted || json.Unmarshal(e.Data, &t) != nil || !t.Purge && !h.takenSince(e.Document) {
		return
	}
	now := h.member.Status()
	if t.Term != now.Term && !t.Purge || now.Leader == now.ID { // a leader ends last: see end
		return
	}
	h.ends(t.Purge)
}

// mayLead reports whether this host leads a stack that is to be up. Of a stack that was
// taken down while it was up it does not: it has all hosts end that have not.
func (h *Host) mayLead(ctx context.Context, term uint64) (bool, error) {
	doc, there, err := h.member.Get(ctx, downDocument)
	if err != nil || !there {
		return err == nil, err
	}
	var t taken
	if err := json.Unmarshal(doc.Data, &t); err != nil {
		return false, err
	}
	if t.Purge || h.takenSince(doc) {
		return false, h.end(ctx, term, t.Purge)
	}
	return true, h.member.Delete(ctx, term, downDocument, agree.AnyRevision)
}
