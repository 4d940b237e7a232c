package agree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Peer is a member as the others know it.
type Peer struct {
	Name    string
	ID      string // the identity of its incarnation, see Member.ID
	Address string
	// Voter reports whether it has a vote. A new member has none until it has
	// received the log.
	Voter bool
}

func peerOf(id, address string) Peer {
	name, _, _ := strings.Cut(id, "/")
	_, address = splitAddress(address)
	return Peer{Name: name, ID: id, Address: address}
}

// Members returns all members as this one knows them, sorted by name.
func (m *Member) Members() []Peer {
	future := m.raft.GetConfiguration() // returns at once
	var peers []Peer
	for _, server := range future.Configuration().Servers {
		peer := peerOf(string(server.ID), string(server.Address))
		peer.Voter = server.Suffrage == raft.Voter
		peers = append(peers, peer)
	}
	slices.SortFunc(peers, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return peers
}

// Status is what a member knows about itself.
type Status struct {
	Progress
	// Member reports whether it is one of the members, as far as it knows. A member
	// that was removed while it was away does not know that.
	Member bool
	// Heard is when it last heard from the leader. It is zero if it leads, or has
	// never heard from one.
	Heard time.Time
}

// Status returns what this member knows about itself. It asks no other member.
func (m *Member) Status() Status {
	s := Status{Progress: m.progress(), Heard: m.raft.LastContact()}
	if s.Leader == s.ID {
		s.Heard = time.Time{}
	}
	for _, peer := range m.Members() {
		s.Member = s.Member || peer.ID == s.ID
	}
	return s
}

func (m *Member) progress() Progress {
	leader, _ := m.leader()
	return Progress{
		ID: m.store.id, Term: m.raft.CurrentTerm(), Last: m.raft.LastIndex(), Applied: m.raft.AppliedIndex(),
		Leader: leader.ID,
	}
}

// Probe asks another member for its Progress. The error is ErrOtherIncarnation if
// another incarnation answers at its address.
func (m *Member) Probe(ctx context.Context, peer Peer) (Progress, error) {
	return m.streams.probe(ctx, peer.ID, peer.Address)
}

// Add adds a member that has been started at an address with an empty directory;
// id is its Member.ID. It gets a vote only after it has received the log, so a
// member that cannot be reached never counts for the majority. If that fails, or
// the context ends first, it is not added. Only the leader can add members.
func (m *Member) Add(ctx context.Context, id, address string) error {
	return m.admit(ctx, id, address, false)
}

// Replace adds a new incarnation in the place of the member of the same name. The
// old one loses its vote before the new one gets its own. Replace also gives the
// same incarnation another address.
func (m *Member) Replace(ctx context.Context, id, address string) error {
	return m.admit(ctx, id, address, true)
}

func (m *Member) admit(ctx context.Context, id, address string, replace bool) error {
	name, incarnation, _ := strings.Cut(id, "/")
	if err := errors.Join(checkHost(name), checkHost(incarnation), checkAddress(address)); err != nil {
		return err
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.verify(ctx); err != nil {
		return err
	}

	var old []Peer
	for _, peer := range m.Members() {
		switch {
		case peer.ID == id && peer.Address == address && peer.Voter:
			return nil
		case peer.Name == name && !replace && (peer.ID != id || peer.Voter):
			return fmt.Errorf("%s is a member already, at %s: remove or replace it", name, peer.Address)
		case peer.Name != name && peer.Address == address:
			return fmt.Errorf("%s has the address %s already", peer.Name, address)
		case peer.Name == name && peer.ID == m.store.id && peer.ID != id:
			return fmt.Errorf("%s leads and cannot replace itself: have another member lead first", name)
		case peer.Name == name && peer.ID != id:
			old = append(old, peer)
		case peer.ID == id && peer.Voter:
			return m.move(ctx, id, address)
		}
	}

	if err := m.addNonvoter(ctx, id, address); err != nil {
		return err
	}
	for _, peer := range old {
		if err := m.removeServer(ctx, peer.ID); err != nil {
			return err
		}
	}
	return m.reconfigure(ctx, func(limit time.Duration) raft.Future {
		return m.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(peerAddress(id, address)), 0, limit)
	})
}

// move gives a member another address, if it answers there.
func (m *Member) move(ctx context.Context, id, address string) error {
	if _, err := m.streams.probe(ctx, id, address); err != nil {
		return err
	}
	return m.reconfigure(ctx, func(limit time.Duration) raft.Future {
		return m.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(peerAddress(id, address)), 0, limit)
	})
}

// addNonvoter adds a member without a vote, and waits until it has all entries that the
// log has now. If that fails, it removes the member again.
func (m *Member) addNonvoter(ctx context.Context, id, address string) (err error) {
	if _, err := m.streams.probe(ctx, id, address); err != nil {
		return fmt.Errorf("%s cannot be added: %w", id, err)
	}

	err = m.reconfigure(ctx, func(limit time.Duration) raft.Future {
		return m.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(peerAddress(id, address)), 0, limit)
	})
	if err != nil {
		return err
	}

	want := m.raft.LastIndex()
	for {
		p, err := m.streams.probe(ctx, id, address)
		if err == nil && p.Last >= want {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
			continue
		case <-m.stopping.Done():
		case <-ctx.Done():
		}
		// The member must not stay half added. The removal has a context of its own,
		// because ctx has ended.
		undo, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		return errors.Join(fmt.Errorf("%s has entry %d of %d and was not added: %w", id, p.Last, want, cmp.Or(err, ErrNoMajority)), m.removeServer(undo, id))
	}
}

// Remove removes a member and its vote. Its directory has to be deleted before the
// host can be added again. Only the leader can remove members; it can also remove
// itself, and does not lead any more then. Remove returns nil if no member has the
// name.
func (m *Member) Remove(ctx context.Context, name string) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.verify(ctx); err != nil {
		return err
	}
	members := m.Members()
	for _, peer := range members {
		if peer.Name != name {
			continue
		}
		if len(members) == 1 {
			return fmt.Errorf("%s is the only member: a stack of one host has none", name)
		}
		if err := m.removeServer(ctx, peer.ID); err != nil {
			return err
		}
	}
	return nil
}

func (m *Member) removeServer(ctx context.Context, id string) error {
	return m.reconfigure(ctx, func(limit time.Duration) raft.Future {
		return m.raft.RemoveServer(raft.ServerID(id), 0, limit)
	})
}

// reconfigure carries out one change of raft's members.
func (m *Member) reconfigure(ctx context.Context, change func(limit time.Duration) raft.Future) error {
	limit := callTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	err := m.await(ctx, func() error { return change(limit).Error() })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return m.notLeader()
	}
	return fmt.Errorf("the members may have changed, look at them before you go on: %w: %w", ErrUnknownOutcome, err)
}
