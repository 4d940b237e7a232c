package drill

import "fmt"

// RefusedError reports why such a drill of such a stack is impossible, and what to do. Nothing was
// started, and nothing broken.
type RefusedError struct{ err error }

func (e *RefusedError) Error() string { return e.err.Error() }
func (e *RefusedError) Unwrap() error { return e.err }

func refusef(format string, args ...any) error {
	return &RefusedError{fmt.Errorf(format, args...)}
}
