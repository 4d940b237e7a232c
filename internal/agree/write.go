package agree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Write makes all changes or none, and returns the new revision of the documents.
// Term is the one that Lead was called with. Write returns nil when the changes
// are on the disks of a majority and can be read here. The errors of this package
// tell what is known otherwise.
func (m *Member) Write(ctx context.Context, term uint64, changes ...Change) (revision uint64, err error) {
	if err := validate(changes); err != nil || len(changes) == 0 {
		return 0, err
	}
	if !m.leadsIn(term) {
		return 0, m.notLeader()
	}
	r, err := m.propose(ctx, command{Version: commandVersion, Term: term, Changes: changes})
	if errors.Is(r.err, ErrNotLeader) { // the log has refused the term
		return 0, fmt.Errorf("%w: %w", m.notLeader(), r.err)
	}
	return r.revision, errors.Join(err, r.err)
}

// Put writes one document, which must have the given revision; see
// Change.Revision.
func (m *Member) Put(ctx context.Context, term uint64, name string, data []byte, revision uint64) (uint64, error) {
	return m.Write(ctx, term, Change{Name: name, Data: data, Revision: revision})
}

// Delete deletes a document, which must have the given revision.
func (m *Member) Delete(ctx context.Context, term uint64, name string, revision uint64) error {
	_, err := m.Write(ctx, term, Change{Name: name, Revision: revision, Delete: true})
	return err
}

// Get returns the current version of a document; ok is false if there is none. It
// works only at the leader. It asks a majority whether this member still leads
// (raft's VerifyLeader), so it depends on no clock. Answers that were under way
// when Get began count as well: they are at most callTimeout old.
func (m *Member) Get(ctx context.Context, name string) (doc Document, ok bool, err error) {
	if err := m.verify(ctx); err != nil {
		return Document{}, false, err
	}
	doc, ok = m.documents.get(name)
	return doc, ok, nil
}

// List returns the current version of all documents whose names begin with the
// prefix, sorted by name. Like Get it works only at the leader.
func (m *Member) List(ctx context.Context, prefix string) ([]Document, error) {
	if err := m.verify(ctx); err != nil {
		return nil, err
	}
	return m.documents.list(prefix), nil
}

// GetStale returns this member's copy of a document, whether it leads or not.
func (m *Member) GetStale(name string) (doc Document, ok bool) {
	doc, ok = m.documents.get(name)
	doc.Stale = true
	return doc, ok
}

// ListStale is List for this member's copies, whether it leads or not.
func (m *Member) ListStale(prefix string) []Document {
	found := m.documents.list(prefix)
	for i := range found {
		found[i].Stale = true
	}
	return found
}

// Settle waits until this member has carried out everything that a leader has told
// it is agreed on. After a start, the documents are those of the last snapshot until
// then: whether the later entries of the log were agreed on is not known yet.
func (m *Member) Settle(ctx context.Context) error {
	for !m.settled() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: no leader was heard of since this member was started", ErrNoMajority)
		case <-m.stopping.Done():
			return ErrStopped
		}
	}
	return nil
}

func (m *Member) settled() bool {
	agreed := m.raft.CommitIndex() // 0 after a start, until it is heard from a leader
	if agreed == 0 {
		return false
	}
	// Raft's own index of applied entries is no use here: it counts an entry when
	// it is handed on, before documents.Apply has carried it out.
	last, err := m.store.lastCommand(agreed)
	return err == nil && m.documents.carriedOut() >= last
}

// Watch returns this member's copies of the documents, and a channel of all later
// changes in order; the changes of one write come together. The channel is closed
// when the context ends, when the member stops, and when its reader is more than
// 256 writes behind. In the last case call Watch again.
func (m *Member) Watch(ctx context.Context) ([]Document, <-chan []Event) {
	return m.documents.watch(ctx)
}

// Leader returns the member that leads. It waits for one until the context ends.
func (m *Member) Leader(ctx context.Context) (Peer, error) {
	for {
		if peer, ok := m.leader(); ok {
			return peer, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return Peer{}, fmt.Errorf("%w: no leader is known", ErrNoMajority)
		case <-m.stopping.Done():
			return Peer{}, ErrStopped
		}
	}
}

func (m *Member) leader() (Peer, bool) {
	address, id := m.raft.LeaderWithID()
	if id == "" {
		return Peer{}, false
	}
	return peerOf(string(id), string(address)), true
}

func (m *Member) notLeader() error {
	if m.stopping.Err() != nil {
		return ErrStopped
	}
	e := &NotLeaderError{}
	if peer, ok := m.leader(); ok && peer.ID != m.store.id {
		e.Leader = peer
	}
	return e
}

func (m *Member) leadsIn(term uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.term == term && term > 0
}

// verify returns nil if this member leads and has everything that was written.
func (m *Member) verify(ctx context.Context) error {
	m.mu.Lock()
	term := m.term
	m.mu.Unlock()
	if term > 0 {
		err := m.await(ctx, func() error { return m.raft.VerifyLeader().Error() })
		if err == nil && m.leadsIn(term) || errors.Is(err, ErrNoMajority) || errors.Is(err, ErrStopped) {
			return err
		}
	}
	if _, err := m.Leader(ctx); err != nil {
		return err
	}
	return m.notLeader()
}

// propose adds a command to the log and waits until it is carried out here. The
// error in the result is the outcome at every member. If propose itself returns an
// error, the command may or may not be carried out, unless the error is
// ErrNotLeader.
func (m *Member) propose(ctx context.Context, c command) (result, error) {
	var limit time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	var future raft.ApplyFuture
	err := m.await(ctx, func() error {
		future = m.raft.Apply(c.encode(), limit)
		return future.Error()
	})
	switch {
	case err == nil:
		if r, ok := future.Response().(result); ok {
			return r, nil
		}
		err = ErrStopped // the member stopped while it carried the command out
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return result{}, m.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost):
		return result{}, fmt.Errorf("%w: this host lost the lead while it was under way", ErrUnknownOutcome)
	}
	return result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// await runs a call of raft and waits for it until the context ends. A call cannot
// be cancelled: it goes on in the background, at the latest until raft stops.
func (m *Member) await(ctx context.Context, call func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- call() }()
	select {
	case err := <-ended:
		switch {
		case errors.Is(err, raft.ErrEnqueueTimeout):
			return ErrNoMajority
		case errors.Is(err, raft.ErrRaftShutdown):
			return ErrStopped
		}
		return err
	case <-ctx.Done():
		return ErrNoMajority
	case <-m.done:
		return ErrStopped
	}
}
