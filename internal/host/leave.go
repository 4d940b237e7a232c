package host

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/internal/agree"
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

// A host that was removed has no vote any more, and so hears of nothing that the others agree
// on: it is refused. It asks when the leader has told it to, when it has lost its vote, and
// when it hears of no leader.
const (
	// membershipEvery is how often a host looks whether it has to ask.
	membershipEvery = 250 * time.Millisecond
	// unheard is how long a host hears of no leader before it asks, and askAgain the time
	// between two questions.
	unheard  = 3 * time.Second
	askAgain = 2 * time.Second
	// refusals is how many it takes: one may be a mistake of a moment.
	refusals = 2
)

// watchMembership finds out that this host was removed.
func (h *Host) watchMembership() {
	ticker := time.NewTicker(membershipEvery)
	defer ticker.Stop()
	refused, voted, doubts := 0, false, 0
	var asked time.Time
	for {
		select {
		case <-ticker.C:
			doubts = max(doubts-1, 0)
		case <-h.doubts:
			doubts = refusals + 2
		case <-h.life.Done():
			return
		}
		now := h.member.Status()
		voted = voted || now.Member
		lost := voted && !now.Member
		silent := h.unled()
		if !lost && !silent && doubts == 0 {
			refused = 0
			continue
		}
		other, known := h.anyOther()
		if !known || !lost && doubts == 0 && time.Since(asked) < askAgain {
			continue
		}
		asked = time.Now()
		switch {
		case h.refusedBy(other):
			if refused++; refused >= refusals {
				h.wasRemoved()
				return
			}
		case lost:
			h.tryEnter() // a removal that was not carried through
		}
	}
}

// refusedBy reports whether another host refuses this one. Only a host that has shown its
// certificate can: in TLS 1.3 (RFC 8446, section 4.4) a server does so before it sees the
// client's, so its refusal comes after the handshake, as the first answer. Whatever comes
// earlier may be from somebody else at its address.
func (h *Host) refusedBy(name string) bool {
	ctx, cancel := context.WithTimeout(h.life, reachLimit)
	defer cancel()
	conn, err := h.connect(ctx, name, webProtocol)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // it cannot fail on an open connection

	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+name+ListPath, nil)
	if err == nil {
		err = req.Write(conn)
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // of any answer
	}
	return identity.ReasonOf(h.trust.Explain(err, "host "+name)) == identity.Refused
}

// removeLimit is how long it may take to remove a host.
const removeLimit = 15 * time.Second

// remove takes a host out of the stack, for any host that asks.
//
// The vote goes first. Of two hosts, the other one needs the vote of the one that leaves for
// everything until then, and a host that has heard of its removal votes no more.
func (h *Host) remove(ctx context.Context, term uint64, name string) (struct{}, error) {
	// Once begun it is carried through, also when nobody waits for it any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()
	tell := func() {}
	defer func() { tell() }() // when others may vote again
	h.voting.Lock()           // so that no other host goes, and this one does not enter again, in between
	defer h.voting.Unlock()
	if err := h.mayRemove(ctx, name); err != nil {
		return struct{}{}, err
	}
	if name == h.self.Name {
		// The host that was asked passes the same question on to the next leader.
		h.member.Resign(fmt.Errorf("host %s is to be removed", name))
		return struct{}{}, errHandsOver
	}
	tell = h.beforeTelling(ctx, name)
	if err := h.member.Remove(ctx, name); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, h.strike(ctx, term, name)
}

// doubtPath is where a host is told that it may have been removed: it finds out by itself.
const doubtPath = "/v1/doubt"

// beforeTelling returns what tells a host that it was removed. The connection has to be made
// before: later neither of the two trusts the other.
func (h *Host) beforeTelling(ctx context.Context, name string) (tell func()) {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	conn, err := h.connect(ctx, name, webProtocol)
	if err != nil {
		return func() {} // it is away, and finds out when it is back
	}
	return func() {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(reachLimit))
		req, err := http.NewRequest(http.MethodPost, "https://"+name+doubtPath, nil)
		if err == nil && req.Write(conn) == nil {
			_, _ = conn.Read(make([]byte, 1)) // of its answer
		}
	}
}

func (h *Host) doubt(w http.ResponseWriter, _ *http.Request) {
	select {
	case h.doubts <- struct{}{}:
	default: // it doubts already
	}
	w.WriteHeader(http.StatusNoContent)
}

// strike has the hosts agree that one of them is none any more, and that its tokens are void.
func (h *Host) strike(ctx context.Context, term uint64, name string) error {
	return h.rewrite(ctx, term, func() ([]agree.Change, error) {
		var hosts roster
		var invitations identity.Invitations
		of, err := h.load(ctx, rosterDocument, &hosts)
		if err != nil {
			return nil, err
		}
		first, err := changed(rosterDocument, of, hosts.without(name))
		if err != nil {
			return nil, err
		}
		if of, err = h.load(ctx, invitationsDocument, &invitations); err != nil || invitations == nil {
			return []agree.Change{first}, err
		}
		invitations.Revoke(name)
		second, err := changed(invitationsDocument, of, invitations)
		return []agree.Change{first, second}, err
	})
}

// strikeVotes takes the votes of members that are no hosts of the stack: a leader that ended
// in the middle of a removal may have left one.
func (h *Host) strikeVotes(ctx context.Context) error {
	var hosts roster
	if _, err := h.load(ctx, rosterDocument, &hosts); err != nil {
		return err
	}
	h.voting.Lock()
	defer h.voting.Unlock()
	for _, peer := range h.member.Members() {
		if _, is := hosts.Hosts[peer.Name]; is {
			continue
		}
		if err := h.member.Remove(ctx, peer.Name); err != nil {
			return fmt.Errorf("take the vote of %s, which is no host of the stack: %w", peer.Name, err)
		}
	}
	return nil
}

// errHandsOver asks for another try.
var errHandsOver = later("the host that leads is the one to be removed, and hands over: try again in a moment")

// mayRemove refuses what would leave the stack without a majority.
func (h *Host) mayRemove(ctx context.Context, name string) error {
	var names, silent []string
	is, left := false, 0
	for _, s := range h.View(ctx).Hosts { // those that have a vote alone are among them
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
