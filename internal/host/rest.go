package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/agree"
)

// One host ends for maintenance: the leader has stopped its nodes, and then has the host's
// process end. The others go on.

// restDocument names the process that is to end.
const restDocument = "rest"

// resting is the document.
type resting struct {
	Host string `json:"host"`
	Run  string `json:"run"`
}

// endLimit is how long a host may take to end.
const endLimit = 15 * time.Second

// Rest is closed when this host is to end for maintenance: its nodes are down.
func (h *Host) Rest() <-chan struct{} { return h.rest }

// hearRest ends this host's part if it is the one that is meant. An earlier process of it
// may have been.
func (h *Host) hearRest(e agree.Event) {
	var r resting
	if e.Deleted || json.Unmarshal(e.Data, &r) != nil {
		return
	}
	if r.Host == h.self.Name && r.Run == h.run {
		h.restOnce.Do(func() { close(h.rest) })
	}
}

// runOf is the process of a host; empty: none has told of itself.
func (h *Host) runOf(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.Hosts[name].Run
}

// endHost has another host's process end, and waits until it does not answer any more.
func (h *Host) endHost(ctx context.Context, term uint64, name string) error {
	text, err := json.Marshal(resting{name, h.runOf(name)})
	if err != nil {
		return err
	}
	if _, err = h.member.Put(ctx, term, restDocument, text, agree.AnyRevision); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	for _, peer := range h.member.Members() {
		for peer.Name == name && h.answers(ctx, peer) {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("the nodes of host %s are down, and its process has not ended after %v: end it there", name, endLimit)
			}
		}
	}
	return nil
}
