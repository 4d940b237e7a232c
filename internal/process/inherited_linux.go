package process

import (
	"math"

	"golang.org/x/sys/unix"
)

// closeOnExec sets close-on-exec for every open descriptor from first on. Since
// Linux 5.11, close_range(2) does so in one call.
func closeOnExec(first int) error {
	if unix.CloseRange(uint(first), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	return closeEachOnExec(first)
}
