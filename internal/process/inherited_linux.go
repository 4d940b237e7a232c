package process

import (
	"math"

	"golang.org/x/sys/unix"
)

// closeOnExec marks every descriptor from first on. close_range(2) does so in
// one call since Linux 5.11.
func closeOnExec(first int) error {
	if unix.CloseRange(uint(first), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	return closeEachOnExec(first)
}
