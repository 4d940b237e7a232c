//go:build !linux

package supervise

import (
	"errors"

	"golang.org/x/sys/unix"
)

// processLimit cannot be read of another process here.
func processLimit(int, *unix.Rlimit) error { return errors.ErrUnsupported }
