package process

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// KeepInheritedFiles makes sure that the files which this process has inherited,
// except standard input, output and error, are not inherited by the processes
// that it starts. Otherwise a lock of this process's caller, or the end of a pipe
// whose close somebody waits for, would stay open as long as the nodes run.
func KeepInheritedFiles() error {
	if err := closeOnExec(3); err != nil {
		return fmt.Errorf("keep inherited files from the nodes: %w", err)
	}
	return nil
}

// closeEachOnExec sets close-on-exec for every open descriptor from first on.
func closeEachOnExec(first int) error {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		// The list includes the descriptor of the directory itself, which is closed now.
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
