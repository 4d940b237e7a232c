package ack

import "time"

// A batch that only reads, and reads nothing new, takes no trip to the replicas. WAIT would
// make one: it asks them by a command in the replication stream (REPLCONF GETACK) whose
// answer does not cover itself, so the next WAIT finds them behind again (Redis 7.0,
// replication.c, replicationSendAck), unless they have told of themselves since, which they
// do once a second.
//
// ROLE takes its place behind such a batch. It tells the master's offset, and the batch has
// seen no more than that. Every other node has as much if all of them say that they follow
// this master, which makes their offsets comparable, and have applied as much. They are
// asked after ROLE was answered: once for each proof, and a few times more when others
// write.
//
// That the node is the master still rests on the last proof, as for every batch, and on two
// more things, since nobody confirms this batch. First, ROLE counts as many replicas as
// could be promoted: a replica that was promoted, or follows another master, has closed its
// connection. Second, when this batch is answered, the one before it, which the master has
// answered too, was sent at most MaxResponseGap ago. A master that stalled while it was
// replaced may look at its clients before it looks at the connections that have ended, but
// it has seen all those that had ended by then.

// MaxResponseGap is how long ago that may have been. More time lies between the promotion of
// a replica and the moment at which another one is turned to it: a Sentinel does the one
// after it has seen the other, at another tick (50 to 100 ms).
const MaxResponseGap = 30 * time.Millisecond

// maxProbes is how often the other nodes may be asked for one proof. Where others write all
// the time it helps nobody, and WAIT is cheaper.
const maxProbes = 4

// Role is what a node said of itself (ROLE): whether it is a master, its offset, and how
// many replicas it has.
type Role struct {
	Master bool
	Offset int64
	Online int
}

// WaitElision decides which batches go without WAIT. Its zero value lets none.
type WaitElision struct {
	// Heard is when the last batch was sent that the master has answered.
	Heard time.Time

	eligible bool  // since the last proof nothing spoke against it
	covered  int64 // an offset that every other node was heard to have
	others   int   // how many these were
	probes   int   // how often they may still be asked
}

// Proved begins anew with a proof.
func (e *WaitElision) Proved() {
	*e = WaitElision{eligible: true, probes: max(e.probes, 1), Heard: e.Heard}
}

// MaySkipWait reports whether a batch of new operations can do without WAIT, if ROLE bears it out
// (Covered). waiting is how many operations of earlier batches are still to be acknowledged: they
// need the batch's WAIT.
func (e *WaitElision) MaySkipWait(s State, n Needs, batch, waiting int) bool {
	switch {
	case batch == 0 || waiting > 0:
		return false
	case n.Write || n.Async:
		return false
	case !e.eligible || s.Now.Sub(s.Proven) >= ProofEvery || s.Now.Sub(e.Heard) >= MaxResponseGap:
		return false
	case s.Others == 0 || s.Others < s.MinAcks || s.NeedsOffset():
		return false // some node is not in sync, and which one matters
	}
	return true
}

// Stalled reports whether the master has not been heard for so long that a batch which went
// without WAIT does not count; heard is Heard as it was when the batch was sent.
func Stalled(heard, now time.Time) bool { return now.Sub(heard) >= MaxResponseGap }

// Covered reports whether the other nodes have what a batch has read, where role is the
// master's behind it. probe is true if that is not known: then the other nodes are to be
// asked, and Probed tells.
func (e *WaitElision) Covered(role Role, others int) (covered, probe bool) {
	eligible := e.eligible && role.Master && role.Online >= others
	e.eligible = false
	switch {
	case !eligible:
		return false, false
	case role.Offset <= e.covered:
		e.probes = min(e.probes+1, maxProbes)
		e.eligible = true
		return true, false
	case e.probes == 0:
		return false, false
	}
	e.probes--
	return false, true
}

// Probed is Covered after the other nodes were asked: least is the least offset among them.
func (e *WaitElision) Probed(role Role, others int, least int64) bool {
	e.covered, e.others = least, others
	e.eligible = role.Offset <= least
	return e.eligible
}

// ReadLease lets batches on other connections be answered without WAIT, under the
// conditions that the session has verified for itself.
type ReadLease struct {
	// Alone: there is no replica, and no Sentinel. Nothing else matters then.
	Alone   bool
	Others  int
	Covered int64 // an offset that every other node was heard to have
	Proven  time.Time
}

// Lease returns the lease that the session's last batch without WAIT justifies.
func (e *WaitElision) Lease(s State) ReadLease {
	return ReadLease{Alone: s.Alone, Others: e.others, Covered: e.covered, Proven: s.Proven}
}

// Same reports whether two leases are the same.
func (l *ReadLease) Same(other *ReadLease) bool {
	return l.Others == other.Others && l.Covered == other.Covered && l.Proven.Equal(other.Proven)
}

// KeepsLease reports whether the session still goes without WAIT by itself.
func (e *WaitElision) KeepsLease(s State) bool { return e.eligible && !s.NeedsOffset() }

// Valid reports whether the lease is good now, if the last proof has to be younger than age.
// gap is how long ago the last batch was sent that the master has answered.
func (l *ReadLease) Valid(now time.Time, age, gap time.Duration) bool {
	return l.Alone || now.Sub(l.Proven) < age && gap < MaxResponseGap
}

// ConfirmedBy reports whether the master's role behind a batch bears the lease out. stands
// is true if the session's master is still believed to be the master.
func (l *ReadLease) ConfirmedBy(role Role, stands bool, others int) bool {
	switch {
	case !role.Master || !stands:
		return false
	case l.Alone:
		return role.Online == 0
	default:
		return others <= l.Others && role.Online >= l.Others && role.Offset <= l.Covered
	}
}
