// Package ack is the rule of when operations are answered: when a write is acknowledged,
// and when what a read showed may be told. Pure: package redis asks the master, its
// replicas and the Sentinels, and this package judges what they said.
//
// A write is acknowledged when every in-sync replica has it, and at least MinAcks of them.
// A read is answered when every in-sync replica has what it showed: no later master lacks
// it then. Whether that is so is decided in this order.
//
//  1. WAIT behind a batch counts the replicas that have it (State.Replicas).
//  2. All is answered if every node that could be promoted has confirmed, and a proof that
//     they still follow this master is young enough (State.Decide, ProofAge).
//  3. Otherwise the nodes and the Sentinels are asked anew. Nothing is answered if another
//     node is the master, or may have been promoted unheard (Judge), or while an in-sync
//     replica that may still be promoted lacks the batch (InSync.Agreed).
//
// A batch that only reads, and shows nothing that the replicas do not have, may go without
// WAIT (WaitElision), and so may such batches on other connections (ReadLease).
package ack

import (
	"time"

	"holdfast/internal/redis/election"
)

// ProofAge is how old a proof may be when an answer relies on it, and ProofEvery how often
// one is made. A proof is a write of our own that every in-sync replica has confirmed. It
// is needed because WAIT compares with what the replicas have confirmed already: where
// nothing was written since, it asks nobody, and a master that has long been cut off would
// answer what only reads.
//
// If the master is cut off from its replicas and from the Sentinels, these take downAfter
// or more after the last proof to replace it. If it is cut off from the Sentinels alone, a
// replica that they promote no longer confirms. No write is acknowledged there until another
// replica follows the new master, and that one no longer confirms here either.
const (
	ProofAge   = 150 * time.Millisecond
	ProofEvery = ProofAge / 2
)

// Needs is what operations need before they are answered.
type Needs struct {
	Write bool // a write waits until replicas have it
	Async bool // a write does not wait for replicas
	Read  bool // what a read showed has to be on the replicas
}

// Or returns what either of two groups of operations needs.
func (n Needs) Or(other Needs) Needs {
	return Needs{n.Write || other.Write, n.Async || other.Async, n.Read || other.Read}
}

// State is what a session knows when it decides.
type State struct {
	Now     time.Time
	MinAcks int  // how many replicas have to have a write, however few are in sync
	Alone   bool // there are no Sentinels, so that nobody can promote another node
	// InSync is how many replicas have to have a batch. Lagging is true while one of them
	// has missed its deadline.
	InSync  int
	Lagging bool
	Online  int       // replicas that the master has
	Others  int       // nodes that could be promoted
	Proven  time.Time // when the last proof was sent that succeeded
}

// Replicas returns how many replicas have to confirm operations.
func (s State) Replicas(n Needs) int {
	switch {
	case n.Write:
		return max(s.InSync, s.MinAcks)
	case n.Read:
		return max(s.InSync, min(s.MinAcks, s.Online))
	}
	return 0
}

// ProofDue reports whether a proof has to go with the next batch that reads or writes.
func (s State) ProofDue() bool {
	return !s.Alone && s.InSync > 0 && s.Now.Sub(s.Proven) >= ProofEvery
}

// Proves reports whether so many confirmations of a batch with a proof in it make one.
func (s State) Proves(acks int) bool { return acks > 0 && acks >= s.InSync }

// NeedsOffset reports whether the master's offset behind a batch has to be known. Where a
// node is not in sync, it matters which replicas have confirmed, and not only how many.
func (s State) NeedsOffset() bool { return s.InSync < s.Others || s.Lagging }

// Decision is what is to be done with operations that the master has carried out.
type Decision int

const (
	Wait   Decision = iota // nothing yet: the next batch's WAIT covers them, too
	Answer                 // all are answered
	Ask                    // the nodes and the Sentinels are asked first: see Judge
)

// AtOnce reports whether an operation is answered as soon as the master has it.
func AtOnce(write, async bool) bool { return write && async }

// Decide decides after a WAIT that so many replicas confirmed.
func (s State) Decide(n Needs, acks int) Decision {
	enough := acks >= s.Replicas(n)
	switch {
	case enough && s.Alone:
		return Answer
	case enough && acks >= s.Others && s.Now.Sub(s.Proven) < ProofAge:
		// Every node that could be promoted follows this master: none was.
		return Answer
	case acks >= s.MinAcks || n.Read:
		// A replica has missed the deadline, or is not in sync. It is slow, or dead, or it
		// was promoted. In that case this node is the master no more: what it acknowledged
		// would be lost, and what it answered would be old.
		return Ask
	}
	return Wait
}

// Judgement is what a round of questions says about a session's master.
type Judgement int

const (
	Confirmed Judgement = iota // it is the master, and no other node can have been promoted
	Doubtful                   // another node may have been promoted unheard
	Replaced                   // it is the master no more
)

// Judge judges a round of questions that began after a batch was confirmed.
func Judge(round election.Snapshot, master string) Judgement {
	switch {
	case round.Master != master:
		return Replaced
	case !round.Certain():
		return Doubtful
	}
	return Confirmed
}

// Answered reports whether an operation is answered once the in-sync replicas agree (see
// InSync.Agreed). A write also needs the least number of confirmations.
func (s State) Answered(write bool, acks int) bool { return !write || acks >= s.MinAcks }
