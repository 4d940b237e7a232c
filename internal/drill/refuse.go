package drill

import "fmt"

// RefusedError says why there can be no such drill of such a stack, and what
// to do. Nothing was started, and nothing broken.
type RefusedError struct{ msg string }

func (e *RefusedError) Error() string { return e.msg }

func refusef(format string, args ...any) error {
	return &RefusedError{fmt.Sprintf(format, args...)}
}
