package machine

import (
	"errors"
	"syscall"

	"holdfast/internal/process"
)

// The errors that a caller has to recognize, besides fs.ErrNotExist.
var (
	// ErrGone means that a process has ended.
	ErrGone = process.ErrGone
	// ErrNoRoom means that the disk is full, or that the user's quota is used up.
	ErrNoRoom = errors.New("no room on the disk")
	// ErrTaken means that another process listens on an address.
	ErrTaken = errors.New("the address is taken")
	// ErrUnreachable means that the host cannot be asked. Its nodes may still run.
	ErrUnreachable = errors.New("the host cannot be reached")
	// ErrRefused means that no process listens at the address of a connection.
	ErrRefused = errors.New("the connection is refused")
)

// knownError is an error that is also one of those above, with its original text.
type knownError struct{ known, err error }

func (e *knownError) Error() string   { return e.err.Error() }
func (e *knownError) Unwrap() []error { return []error{e.known, e.err} }

// known makes an error of the system one of those above if it corresponds to one. It returns
// other errors unchanged.
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
