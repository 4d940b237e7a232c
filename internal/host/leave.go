package host

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/internal/identity"
)

// Removed is closed when this host hears that it was removed from the stack.
func (h *Host) Removed() <-chan struct{} { return h.gone }

func (h *Host) wasRemoved() { h.goneOnce.Do(func() { close(h.gone) }) }

// hearRoster looks whether this host is still one of the stack.
func (h *Host) hearRoster(r roster) {
	if slices.Contains(r.Gone, h.keeper.Credentials().Peer().ID) {
		h.wasRemoved()
	}
}

// A host that was away when it was removed is told nothing: it is refused.
const (
	membershipEvery = 2 * time.Second
	// unheard is how long a host hears of no leader before it asks.
	unheard = 3 * time.Second
	// refusals is how many it takes: one may be a mistake of a moment.
	refusals = 2
)

// watchMembership finds out that this host was removed while it was away.
func (h *Host) watchMembership() {
	ticker := time.NewTicker(membershipEvery)
	defer ticker.Stop()
	refused := 0
	for {
		select {
		case <-ticker.C:
		case <-h.life.Done():
			return
		}
		if h.leads() != 0 || time.Since(h.member.Status().Heard) < unheard {
			refused = 0
			continue
		}
		other, known := h.anyOther()
		if !known {
			continue
		}
		switch identity.ReasonOf(h.greet(other)) {
		case identity.Removed, identity.Refused:
			if refused++; refused >= refusals {
				h.wasRemoved()
				return
			}
		}
	}
}

// greet asks another host for something, to hear whether it refuses this one.
func (h *Host) greet(name string) error {
	ctx, cancel := context.WithTimeout(h.life, reachLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+ListPath, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: h.transport(name)}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return h.trust.Explain(err, "host "+name) // TLS 1.3 tells a refusal with the first answer
	}
	return resp.Body.Close()
}

// remove takes a host out of the stack, for any host that asks.
func (h *Host) remove(ctx context.Context, term uint64, name string) (struct{}, error) {
	if err := h.mayRemove(ctx, name); err != nil {
		return struct{}{}, err
	}
	if name == h.self.Name {
		// The host that was asked passes the same question on to the next leader.
		h.member.Resign(fmt.Errorf("host %s is to be removed", name))
		return struct{}{}, errHandsOver
	}
	err := change(ctx, h, term, rosterDocument, func(r *roster) error {
		*r = r.without(name)
		return nil
	})
	if err != nil {
		return struct{}{}, err
	}
	// The host is a member until it has had time to hear of it.
	select {
	case <-time.After(hearsOfIt):
	case <-ctx.Done():
	}
	return struct{}{}, h.member.Remove(ctx, name)
}

// hearsOfIt is how long a host has to hear that it was removed.
const hearsOfIt = 500 * time.Millisecond

// errHandsOver asks for another try.
var errHandsOver = errors.New("the host that leads is the one to be removed, and hands over: try again in a moment")

// mayRemove refuses what would leave the stack without a majority.
func (h *Host) mayRemove(ctx context.Context, name string) error {
	var names, silent []string
	is, left := false, 0
	for _, s := range h.View(ctx).Hosts {
		names = append(names, s.Name)
		switch {
		case s.Name == name:
			is = true
		case s.Votes && s.Reachable:
			left++
		case s.Votes:
			silent = append(silent, s.Name)
		}
	}
	switch {
	case !is:
		return fmt.Errorf("no host of the stack is called %q; there are %s", name, strings.Join(names, ", "))
	case left == 0 && len(silent) == 0:
		return fmt.Errorf("host %s is the only one that has a vote: 'holdfast down' takes the stack down", name)
	case left <= len(silent):
		return fmt.Errorf("without host %s no majority would be left: of the other hosts, %d answer and %s do not; bring those back, or remove them first",
			name, left, strings.Join(silent, ", "))
	}
	return nil
}
