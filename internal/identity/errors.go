package identity

import (
	"errors"
	"fmt"
)

// Reason is why a peer, a certificate or a token was refused. The reasons of a join are sent
// from host to host, so their text must not change.
type Reason string

// Why a certificate was refused.
const (
	Expired        Reason = "expired"         // it has expired, or the clock is ahead
	NotYetValid    Reason = "not-yet-valid"   // the clock is behind, or was ahead where it was issued
	OtherAuthority Reason = "other-authority" // it was issued by another authority
	OtherHost      Reason = "other-host"      // it belongs to another host
	OtherStack     Reason = "other-stack"     // it belongs to another stack
	Removed        Reason = "removed"         // its owner was removed from the stack
	WrongUse       Reason = "wrong-use"       // it is not for this use: for example a server with an operator's
	NotOurs        Reason = "not-ours"        // it does not name a member of a stack
	Refused        Reason = "refused"         // the other end refused ours and did not say why
)

// Why a host could not join.
const (
	Garbled      Reason = "garbled"       // the token is not what was printed
	TokenUnknown Reason = "token-unknown" // the stack does not know the token
	TokenUsed    Reason = "token-used"    // another host has joined with it
	TokenExpired Reason = "token-expired" // the token has expired
	ClockOff     Reason = "clock-off"     // the clocks of the two hosts differ
	BadRequest   Reason = "bad-request"   // the request cannot be read
	TooMany      Reason = "too-many"      // too many attempts
	Failed       Reason = "failed"        // the member failed to carry the request out
	Unreachable  Reason = "unreachable"   // no member answered
)

// Error is a refusal, or a failure to join. Its text tells what is wrong, where, and what to do.
type Error struct {
	Reason Reason
	text   string
	err    error
}

func (e *Error) Error() string { return e.text }
func (e *Error) Unwrap() error { return e.err }

// ReasonOf returns the reason of an *Error, and "" for any other error.
func ReasonOf(err error) Reason {
	if e := new(Error); errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func refuse(reason Reason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{reason, err.Error(), errors.Unwrap(err)}
}

// DamagedError is the error for a file with keys, certificates or a token that cannot be used.
type DamagedError struct{ err error }

func (e *DamagedError) Error() string { return e.err.Error() }
func (e *DamagedError) Unwrap() error { return e.err }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Errorf(format, args...)} }
