package identity

import (
	"errors"
	"fmt"
)

// Reason is why somebody, or something, was refused. Reasons of a join are sent from host
// to host, so their text does not change.
type Reason string

// Why a certificate was refused.
const (
	Expired        Reason = "expired"         // it has ended, or the clock is ahead
	NotYetValid    Reason = "not-yet-valid"   // the clock is behind, or was ahead where it was issued
	OtherAuthority Reason = "other-authority" // it was issued by another authority
	OtherHost      Reason = "other-host"      // it is another host's
	OtherStack     Reason = "other-stack"     // it is another stack's
	Removed        Reason = "removed"         // its owner was removed from the stack
	WrongUse       Reason = "wrong-use"       // it is not for this use, such as an operator's at a server
	NotOurs        Reason = "not-ours"        // it does not say whose it is
	Refused        Reason = "refused"         // the other end refused ours and did not say why
)

// Why a host could not join.
const (
	Garbled      Reason = "garbled"       // the token is not what was printed
	TokenUnknown Reason = "token-unknown" // the stack does not know the token
	TokenUsed    Reason = "token-used"    // another host has joined with it
	TokenExpired Reason = "token-expired" // it came too late
	ClockOff     Reason = "clock-off"     // the clocks of the two hosts differ
	BadRequest   Reason = "bad-request"   // the request cannot be read
	TooMany      Reason = "too-many"      // too many attempts
	Failed       Reason = "failed"        // the member could not carry it out
	Unreachable  Reason = "unreachable"   // no member answered
)

// Error is a refusal, or a failure to join. Its text says what is wrong, where, and what to do.
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

// DamagedError is why a file with keys or certificates cannot be used.
type DamagedError struct{ err error }

func (e *DamagedError) Error() string { return e.err.Error() }
func (e *DamagedError) Unwrap() error { return e.err }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Errorf(format, args...)} }
