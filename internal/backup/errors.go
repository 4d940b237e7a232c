package backup

import (
	"errors"
	"fmt"
)

// DamagedError is why a backup cannot be used: it is cut off, or its bytes are not
// those that were written.
type DamagedError struct{ err error }

func (e *DamagedError) Error() string { return e.err.Error() }
func (e *DamagedError) Unwrap() error { return e.err }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Errorf(format, args...)} }

// ForeignError is why a file is no backup of Holdfast, or of one that is newer.
type ForeignError struct{ what string }

func (e *ForeignError) Error() string { return e.what }

// Unusable reports whether a backup is damaged or foreign.
func Unusable(err error) bool {
	return errors.As(err, new(*DamagedError)) || errors.As(err, new(*ForeignError))
}
