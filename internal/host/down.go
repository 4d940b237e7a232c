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

// downDocument says when the stack was taken down. The next leader that begins later removes
// it.
const downDocument = "down"

// taken is the document of a stack that was taken down.
type taken struct {
	At time.Time `json:"at"`
}

// Down is closed when the stack was taken down while this host was up: its process is to
// end.
func (h *Host) Down() <-chan struct{} { return h.down }

// end has all hosts end.
func (h *Host) end(ctx context.Context, term uint64) error {
	text, err := json.Marshal(taken{time.Now().UTC()})
	if err != nil {
		return err
	}
	if _, err = h.member.Put(ctx, term, downDocument, text, agree.AnyRevision); err != nil {
		return err
	}
	h.awaitHeard(ctx)
	h.downOnce.Do(func() { close(h.down) })
	return nil
}

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
			for {
				p, err := h.member.Probe(ctx, peer)
				if err != nil || p.Applied >= sure {
					return // it is away, or has ended already
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

// wasTakenDown reports whether a document says that the stack was taken down after this
// host has begun. One of before was that of a stack that is up again.
func (h *Host) wasTakenDown(text []byte) bool {
	var t taken
	return json.Unmarshal(text, &t) == nil && t.At.After(h.began)
}

// downSettles is how long a host waits before it ends: one that was cut off hears of a down
// that is over together with its end.
const downSettles = 300 * time.Millisecond

// hearDown ends this host's part if the stack is still down in a moment.
func (h *Host) hearDown(e agree.Event) {
	if e.Deleted || !h.wasTakenDown(e.Data) || h.leads() != 0 { // a leader ends last: see end
		return
	}
	h.tasks.Go(func() {
		select {
		case <-time.After(downSettles):
		case <-h.life.Done():
			return
		}
		if doc, there := h.member.GetStale(downDocument); there && h.wasTakenDown(doc.Data) {
			h.downOnce.Do(func() { close(h.down) })
		}
	})
}

// mayLead reports whether this host leads a stack that is to be up. Of a stack that was
// taken down meanwhile it does not: the hosts end.
func (h *Host) mayLead(ctx context.Context, term uint64) (bool, error) {
	doc, there, err := h.member.Get(ctx, downDocument)
	if err != nil || !there {
		return err == nil, err
	}
	if h.wasTakenDown(doc.Data) {
		return false, nil
	}
	return true, h.member.Delete(ctx, term, downDocument, agree.AnyRevision)
}
