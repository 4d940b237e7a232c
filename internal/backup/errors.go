package backup

import (
	"errors"
	"fmt"
)

// DamagedError is the error for a backup that cannot be used because it is cut off, or
// because its bytes are not those that were written.
type DamagedError struct{ err error }

func (e *DamagedError) Error() string { return e.err.Error() }
func (e *DamagedError) Unwrap() error { return e.err }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Errorf(format, args...)} }

// ForeignError is the error for a file that is not a backup of Holdfast, or that is one
// of a newer version.
type ForeignError struct{ what string }

func (e *ForeignError) Error() string { return e.what }

// Unusable reports whether an error means that the backup is damaged or foreign.
func Unusable(err error) bool {
	return errors.As(err, new(*DamagedError)) || errors.As(err, new(*ForeignError))
}
