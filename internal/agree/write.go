package agree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Write makes all changes or none, and returns the revision that the documents
// have now. term is the one that Lead got. It returns when the change is on the
// disks of a majority and can be read here; see the errors of this package for
// what is known otherwise.
func (m *Member) Write(ctx context.Context, term uint64, changes ...Change) (revision uint64, err error) {
	if err := validate(changes); err != nil || len(changes) == 0 {
		return 0, err
	}
	if !m.leadsIn(term) {
		return 0, m.notLeader()
	}
	r, err := m.propose(ctx, command{Version: commandVersion, Term: term, Changes: changes})
	if errors.Is(r.err, ErrNotLeader) { // the log's word
		return 0, fmt.Errorf("%w: %w", m.notLeader(), r.err)
	}
	return r.revision, errors.Join(err, r.err)
}

// Put writes one document, which has to have the revision: 0 for a new one.
func (m *Member) Put(ctx context.Context, term uint64, name string, data []byte, revision uint64) (uint64, error) {
	return m.Write(ctx, term, Change{Name: name, Data: data, Revision: revision})
}

// Delete deletes a document, which has to have the revision.
func (m *Member) Delete(ctx context.Context, term uint64, name string, revision uint64) error {
	_, err := m.Write(ctx, term, Change{Name: name, Revision: revision, Delete: true})
	return err
}

// Get returns a document as of now, at the leader alone; ok is false when it is
// not there. That this member still leads, it asks a majority (raft's
// VerifyLeader), and so it needs no clock. A majority's answer that was under way
// when Get began counts as well: it is at most callTimeout old.
func (m *Member) Get(ctx context.Context, name string) (doc Document, ok bool, err error) {
	if err := m.verify(ctx); err != nil {
		return Document{}, false, err
	}
	doc, ok = m.documents.get(name)
	return doc, ok, nil
}

// List returns the documents whose names begin with the prefix, by name, as Get
// does.
func (m *Member) List(ctx context.Context, prefix string) ([]Document, error) {
	if err := m.verify(ctx); err != nil {
		return nil, err
	}
	return m.documents.list(prefix), nil
}

// GetStale returns a document as this member has it, leader or not.
func (m *Member) GetStale(name string) (doc Document, ok bool) {
	doc, ok = m.documents.get(name)
	doc.Stale = true
	return doc, ok
}

// ListStale is List with what this member has, leader or not.
func (m *Member) ListStale(prefix string) []Document {
	found := m.documents.list(prefix)
	for i := range found {
		found[i].Stale = true
	}
	return found
}

// Settle waits until this member has carried out what a leader has said is agreed
// on. Until then its documents are those of its last snapshot: what stands in its
// log beyond that may have been agreed on or not.
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
	agreed := m.raft.CommitIndex() // 0 after a start, until a leader tells it
	if agreed == 0 {
		return false
	}
	// Raft calls an entry applied when it has handed it on.
	last, err := m.store.lastCommand(agreed)
	return err == nil && m.documents.carriedOut() >= last
}

// Watch returns the documents as this member has them and, in order, what
// happens to them from then on; what one write changed comes together. The
// channel is closed when the context ends, the member stops, or its reader is
// more than 256 writes behind: then watch anew.
func (m *Member) Watch(ctx context.Context) ([]Document, <-chan []Event) {
	return m.documents.watch(ctx)
}

// Leader returns the member that leads, and waits for one until the context
// ends.
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

// verify makes sure that this member leads and knows all that was written.
func (m *Member) verify(ctx context.Context) error {
	m.mu.Lock()
	term := m.term
	m.mu.Unlock()
	if term > 0 {
		err := m.within(ctx, func() error { return m.raft.VerifyLeader().Error() })
		if err == nil && m.leadsIn(term) || errors.Is(err, ErrNoMajority) || errors.Is(err, ErrStopped) {
			return err
		}
	}
	if _, err := m.Leader(ctx); err != nil {
		return err
	}
	return m.notLeader()
}

// propose puts a command into the log and waits until it is carried out. A
// result's own error is the members'; any other is the caller's not to know.
func (m *Member) propose(ctx context.Context, c command) (result, error) {
	var limit time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	var future raft.ApplyFuture
	err := m.within(ctx, func() error {
		future = m.raft.Apply(c.encode(), limit)
		return future.Error()
	})
	switch {
	case err == nil:
		if r, ok := future.Response().(result); ok {
			return r, nil
		}
		err = ErrStopped // in the middle of carrying it out
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return result{}, m.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost):
		return result{}, fmt.Errorf("%w: this host lost the lead while it was under way", ErrUnknownOutcome)
	}
	return result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// within waits for a call of raft's until the context ends. Such a call cannot be
// taken back: it ends by itself, at the latest with raft.
func (m *Member) within(ctx context.Context, call func() error) error {
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
