package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/clock"
)

// This file is how one host ends for maintenance: the leader has stopped its nodes, and then
// ends the host's own process. The other hosts go on.

// restDocument is the document that names the host's process that is to end.
const restDocument = "rest"

// resting is the content of restDocument.
type resting struct {
	Host string `json:"host"`
	Run  string `json:"run"`
}

// endLimit is how long a host's process may take to end.
const endLimit = 15 * time.Second

// Rest returns a channel that is closed when this host is to end for maintenance. Its nodes
// are down then.
func (h *Host) Rest() <-chan struct{} { return h.rest }

// hearRest closes Rest if the document names this process. It may name an earlier process of
// this host.
func (h *Host) hearRest(e agree.Event) {
	var r resting
	if e.Deleted || json.Unmarshal(e.Data, &r) != nil {
		return
	}
	if r.Host == h.self.Name && r.Run == h.run {
		h.restOnce.Do(func() { close(h.rest) })
	}
}

// runOf returns the name of a host's process (Member.Run), or "" if the host has not started.
func (h *Host) runOf(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.Hosts[name].Run
}

// endHost ends another host's process, and waits until it does not answer any more, at most
// endLimit.
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
			if !clock.Sleep(ctx, 50*time.Millisecond) {
				return fmt.Errorf("the nodes of host %s are down, and its process has not ended after %v: end it there", name, endLimit)
			}
		}
	}
	return nil
}
