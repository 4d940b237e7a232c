package agree

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader means that another member leads, or none. Nothing was changed.
	// The error is, or wraps, a *NotLeaderError, which has the leader.
	ErrNotLeader = errors.New("this member does not lead")
	// ErrConflict means that a document does not have the revision that the write
	// expects. Nothing was changed. The error is a *ConflictError.
	ErrConflict = errors.New("the document has changed meanwhile")
	// ErrNoMajority means that no majority of the members answered before the
	// context ended.
	ErrNoMajority = errors.New("no majority of the members answered in time")
	// ErrUnknownOutcome means that the change was sent to the others and may have
	// been made, or may still be. Read the document at the leader to find out.
	ErrUnknownOutcome = errors.New("whether the change was made is not known")
	// ErrTooLarge means that a document, a write or all documents together would be
	// above their limit. Nothing was changed.
	ErrTooLarge = errors.New("too large")
	// ErrStopped means that the member was stopped, or stopped by itself
	// (Member.Err).
	ErrStopped = errors.New("this member has stopped")
	// ErrDamaged means that the member's file cannot be read. The member has to be
	// removed at the leader, its directory deleted, and the member added anew.
	ErrDamaged = errors.New("damaged")
	// ErrOtherIncarnation means that another incarnation answers at a member's
	// address, for example because the member's disk was emptied.
	ErrOtherIncarnation = errors.New("another incarnation")
)

// NotLeaderError has the member that leads; Leader is empty if none is known.
type NotLeaderError struct{ Leader Peer }

func (e *NotLeaderError) Error() string {
	if e.Leader.ID == "" {
		return "this member does not lead, and no leader is known: a majority of the members has to be in reach"
	}
	return fmt.Sprintf("this member does not lead: ask %s at %s", e.Leader.Name, e.Leader.Address)
}

func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// ConflictError has the document of a conflict, with the revision that the write
// expected and the one that the document has. 0 means that there is no such
// document.
type ConflictError struct {
	Name       string
	Want, Have uint64
}

func (e *ConflictError) Error() string {
	switch {
	case e.Want == 0:
		return fmt.Sprintf("%s is there already, at revision %d: somebody else has made it", e.Name, e.Have)
	case e.Have == 0:
		return fmt.Sprintf("%s is not there any more: somebody else has deleted it", e.Name)
	}
	return fmt.Sprintf("%s is at revision %d and not at %d: somebody else has changed it", e.Name, e.Have, e.Want)
}

func (e *ConflictError) Is(target error) bool { return target == ErrConflict }
