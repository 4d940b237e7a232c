package host

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/clock"
)

// This file is how a whole stack is taken down: the leader stops the nodes of all hosts, and
// then writes a document that tells the hosts' own processes to end.

// downDocument is the document that tells the hosts that the stack was taken down. The first
// leader of the next start removes it.
const downDocument = "down"

// taken is the content of downDocument.
type taken struct {
	// Term is the term of the leader that took the stack down.
	Term uint64 `json:"term"`
	// Purge is true if the data of all hosts was removed before. Such a stack never comes up
	// again: each host that reads this removes what makes it a host (Leave).
	Purge bool `json:"purge,omitempty"`
}

// Down returns a channel that is closed when the stack is taken down while this host is up:
// the host's process is to end.
func (h *Host) Down() <-chan struct{} { return h.down }

// Purged reports, once Down is closed, whether the stack was removed for good: then this host
// is to remove what makes it a host of the stack (Leave).
func (h *Host) Purged() bool { return h.purged.Load() }

// endAll tells all hosts to end, waits until those that can be reached have heard it, and then
// ends this host. With purge they also remove what makes them hosts of the stack.
func (h *Host) endAll(ctx context.Context, term uint64, purge bool) error {
	text, err := json.Marshal(taken{term, purge})
	if err != nil {
		return err
	}
	if _, err = h.member.Put(ctx, term, downDocument, text, agree.AnyRevision); err != nil {
		return err
	}
	h.awaitHeard(ctx)
	h.markDown(purge)
	return nil
}

func (h *Host) markDown(purge bool) {
	h.downOnce.Do(func() {
		h.purged.Store(purge)
		close(h.down)
	})
}

// probeAgain is how long a host that does not answer is probed again. It may only be slow, and
// in a stack of two hosts no other host could tell it later.
const probeAgain = 2 * time.Second

// awaitHeard waits until all hosts that answer have what was agreed on so far, at most
// reachLimit. This leader ends next, and without a leader the hosts would not receive it.
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
					return // it has heard, is away, or has ended already
				}
				if !clock.Sleep(ctx, 20*time.Millisecond) {
					return
				}
			}
		})
	}

	asked.Wait()
}

// takenSince reports whether a document was written after this host was opened. If the log
// had it before, the stack has been started again since. Revisions are compared and not
// times: the clocks of two hosts may differ by more than the time between a down and an up.
func (h *Host) takenSince(doc agree.Document) bool { return doc.Revision > h.opened }

// hearDown ends this host if the stack was taken down.
//
// A host that was cut off receives an old down together with what came after it. So a down
// counts only if it is of the term of the present leader: a leader of a later term removes the
// document, or takes the stack down again under its own term (mayLead).
func (h *Host) hearDown(e agree.Event) {
	var t taken
	if e.Deleted || json.Unmarshal(e.Data, &t) != nil || !t.Purge && !h.takenSince(e.Document) {
		return
	}
	now := h.member.Status()
	if t.Term != now.Term && !t.Purge || now.Leader == now.ID { // the leader ends last: see endAll
		return
	}
	h.markDown(t.Purge)
}

// mayLead reports whether the stack is to be up, so that this host may lead it. If the stack
// was purged, or taken down since this host was opened, mayLead tells the remaining hosts to
// end and returns false. An older down is over, and mayLead removes its document.
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
		return false, h.endAll(ctx, term, t.Purge)
	}
	return true, h.member.Delete(ctx, term, downDocument, agree.AnyRevision)
}
