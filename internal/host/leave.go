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

// Removed returns a channel that is closed when this host has found out that it was removed
// from the stack.
func (h *Host) Removed() <-chan struct{} { return h.gone }

func (h *Host) wasRemoved() { h.goneOnce.Do(func() { close(h.gone) }) }

// hearRoster checks a new roster for whether this host was removed.
func (h *Host) hearRoster(r roster) {
	if slices.Contains(r.Gone, h.keeper.Credentials().Peer().ID) {
		h.wasRemoved()
	}
}

// A removed host has no vote, and so does not receive the roster without it. It finds out by
// asking the others, which refuse its certificate. It asks when the leader has told it to
// (doubtPath), when it has lost its vote, and when it has heard of no leader for some time.
const (
	// membershipEvery is how often a host checks whether it has to ask.
	membershipEvery = 250 * time.Millisecond
	// unheard is how long a host goes without a leader before it asks, and askAgain is the
	// time between two such questions.
	unheard  = 3 * time.Second
	askAgain = 2 * time.Second
	// refusals is how many refusals in a row count as a removal: a single one may be a
	// passing mistake.
	refusals = 2
)

// watchMembership asks the other hosts, when there is a reason, whether this host was removed.
// It runs until the host ends or was removed.
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
		silent := h.leaderless()
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
			h.tryEnter() // the removal was not completed: ask for the vote again
		}
	}
}

// refusedBy reports whether another host refuses this host's certificate. Only a refusal
// after the client's handshake counts, as the first answer: in TLS 1.3 (RFC 8446, section 4.4)
// the server proves its own identity before it sees the client's certificate. An earlier
// refusal may come from a stranger at the host's address.
func (h *Host) refusedBy(name string) bool {
	ctx, cancel := context.WithTimeout(h.life, reachLimit)
	defer cancel()
	conn, err := h.connect(ctx, name, webProtocol)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // it does not fail on an open connection

	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+name+ListPath, nil)
	if err == nil {
		err = req.Write(conn)
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // any answer will do
	}
	return identity.ReasonOf(h.trust.Explain(err, "host "+name)) == identity.Refused
}

// removeLimit is how long the removal of a host may take.
const removeLimit = 15 * time.Second

// remove is the command that takes a host out of the stack.
//
// The vote is removed before the host is taken from the roster. In a stack of two hosts, every
// write needs the vote of the host that leaves as long as it has one, and a host that has
// heard of its removal does not vote any more.
func (h *Host) remove(ctx context.Context, term uint64, name string) (struct{}, error) {
	// Once begun, the removal is completed even if its client has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()

	tell := func() {}
	defer func() { tell() }() // after voting is unlocked
	h.voting.Lock()           // so that meanwhile no other host is removed, and this one gets no new vote
	defer h.voting.Unlock()

	if err := h.mayRemove(ctx, name); err != nil {
		return struct{}{}, err
	}

	if name == h.self.Name {
		// The client gets errHandsOver and repeats the request, which then reaches the next
		// leader.
		h.member.Resign(fmt.Errorf("host %s is to be removed", name))
		return struct{}{}, errHandsOver
	}

	tell = h.beforeTelling(ctx, name)
	if err := h.member.Remove(ctx, name); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, h.removeFromRoster(ctx, term, name)
}

// doubtPath is the path at which a host is told that it may have been removed. It does not
// believe that, and asks the other hosts (watchMembership).
const doubtPath = "/v1/doubt"

// beforeTelling connects to a host and returns a function that tells it that it was removed.
// The connection has to be made before the removal: afterwards it would be refused.
func (h *Host) beforeTelling(ctx context.Context, name string) (tell func()) {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	conn, err := h.connect(ctx, name, webProtocol)
	if err != nil {
		return func() {} // the host is away, and finds out when it is back
	}
	return func() {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(reachLimit))
		req, err := http.NewRequest(http.MethodPost, "https://"+name+doubtPath, nil)
		if err == nil && req.Write(conn) == nil {
			_, _ = conn.Read(make([]byte, 1)) // wait for its answer
		}
	}
}

func (h *Host) doubt(w http.ResponseWriter, _ *http.Request) {
	select {
	case h.doubts <- struct{}{}:
	default: // a doubt is pending already
	}
	w.WriteHeader(http.StatusNoContent)
}

// removeFromRoster takes a host from the roster and revokes its invitations, in one write.
func (h *Host) removeFromRoster(ctx context.Context, term uint64, name string) error {
	return h.rewrite(ctx, term, func() ([]agree.Change, error) {
		var hosts roster
		var invitations identity.Invitations
		of, err := h.load(ctx, rosterDocument, &hosts)
		if err != nil {
			return nil, err
		}

		first, err := newChange(rosterDocument, of, hosts.without(name))
		if err != nil {
			return nil, err
		}

		if of, err = h.load(ctx, invitationsDocument, &invitations); err != nil || invitations == nil {
			return []agree.Change{first}, err
		}
		invitations.Revoke(name)
		second, err := newChange(invitationsDocument, of, invitations)
		return []agree.Change{first, second}, err
	})
}

// removeStaleVotes removes the votes of members that are not in the roster. A leader that ended in
// the middle of a removal may have left one.
func (h *Host) removeStaleVotes(ctx context.Context) error {
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

// errHandsOver is the error of a removal that the next leader has to carry out.
var errHandsOver = later("the host that leads is the one to be removed, and hands over: try again in a moment")

// mayRemove returns an error if there is no such host, or if the stack would have no majority
// without it.
func (h *Host) mayRemove(ctx context.Context, name string) error {
	var names, silent []string
	is, left := false, 0
	for _, s := range h.View(ctx).Hosts { // includes members that have a vote but are not in the roster
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
