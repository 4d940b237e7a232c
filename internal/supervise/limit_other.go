//go:build !linux

package supervise

import (
	"errors"

	"golang.org/x/sys/unix"
)

// processLimit returns an error: on this system the limit of another process cannot be read.
func processLimit(int, *unix.Rlimit) error { return errors.ErrUnsupported }
