package agree

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader: another member leads, or none. Nothing was changed. The error
	// is a *NotLeaderError.
	ErrNotLeader = errors.New("this member does not lead")
	// ErrConflict: a document does not have the revision that the write expects.
	// Nothing was changed. The error is a *ConflictError.
	ErrConflict = errors.New("the document has changed meanwhile")
	// ErrNoMajority: no majority of the members answered within the context's
	// time.
	ErrNoMajority = errors.New("no majority of the members answered in time")
	// ErrUnknownOutcome: the change was under way and may have been made, or be
	// made yet. Read the document at the leader to know.
	ErrUnknownOutcome = errors.New("whether the change was made is not known")
	// ErrTooLarge: a document, a batch or all documents together would be above
	// their limit. Nothing was changed.
	ErrTooLarge = errors.New("too large")
	// ErrStopped: the member was stopped, or stopped by itself (Member.Err).
	ErrStopped = errors.New("this member has stopped")
	// ErrDamaged: the member's file cannot be read. The member has to be removed
	// at the leader, its directory deleted, and added anew.
	ErrDamaged = errors.New("damaged")
	// ErrOtherIncarnation: at a member's address answers another incarnation of
	// it, such as one whose disk was emptied.
	ErrOtherIncarnation = errors.New("another incarnation")
)

// NotLeaderError has the member that leads; it is empty when none is known.
type NotLeaderError struct{ Leader Peer }

func (e *NotLeaderError) Error() string {
	if e.Leader.ID == "" {
		return "this member does not lead, and no leader is known: a majority of the members has to be in reach"
	}
	return fmt.Sprintf("this member does not lead: ask %s at %s", e.Leader.Name, e.Leader.Address)
}

func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// ConflictError says which document has which revision; 0 is one that is not
// there.
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
