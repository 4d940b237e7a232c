package machine

import (
	"errors"
	"syscall"

	"holdfast/internal/process"
)

// The errors that a caller has to recognise, besides fs.ErrNotExist.
var (
	// ErrGone means that a process has ended.
	ErrGone = process.ErrGone
	// ErrNoRoom means that the disk is full, or the user's share of it.
	ErrNoRoom = errors.New("no room on the disk")
	// ErrTaken means that somebody listens on an address.
	ErrTaken = errors.New("the address is taken")
	// ErrUnreachable means that the host cannot be asked. What it does, nobody knows.
	ErrUnreachable = errors.New("the host cannot be reached")
	// ErrRefused means that nobody listens where a connection was to be made.
	ErrRefused = errors.New("the connection is refused")
)

// knownError is an error that is also one of those above. Its text stays what it was.
type knownError struct{ known, err error }

func (e *knownError) Error() string   { return e.err.Error() }
func (e *knownError) Unwrap() []error { return []error{e.known, e.err} }

// known returns an error of the system as one of those above, where it is one.
func known(err error) error {
	for number, known := range map[syscall.Errno]error{
		syscall.ENOSPC:       ErrNoRoom,
		syscall.EDQUOT:       ErrNoRoom,
		syscall.ECONNREFUSED: ErrRefused,
		syscall.EADDRINUSE:   ErrTaken,
	} {
		if errors.Is(err, number) {
			return &knownError{known, err}
		}
	}
	return err
}
