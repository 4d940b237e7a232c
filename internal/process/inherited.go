package process

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// KeepInheritedFiles keeps the files that this process was started with, but
// for standard input, output and error, from every process that it starts. A
// lock of the caller's, or the end of a pipe that somebody waits for, would
// otherwise live as long as the nodes do.
func KeepInheritedFiles() error {
	if err := closeOnExec(3); err != nil {
		return fmt.Errorf("keep inherited files from the nodes: %w", err)
	}
	return nil
}

// closeEachOnExec marks every descriptor from first on that is open now.
func closeEachOnExec(first int) error {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		// The directory's own descriptor is in the list, and closed by now.
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
