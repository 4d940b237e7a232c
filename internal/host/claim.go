package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/private"
)

// claimFile is held by the process that is this host's part in the stack. The lock of the
// state directory (package supervise) is the supervisor's, which comes and goes with the
// leadership.
const claimFile = "host.lock"

// ClaimedError says that another process is this host's part in the stack.
type ClaimedError struct {
	Dir string
	PID int // 0: unknown
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("this host is up already: process %d works on %s", e.PID, e.Dir)
}

// Claim takes a state directory, which it makes where there is none, for a process that is
// to be a host. The kernel gives it back when the process ends, however it ends. The error
// is a *ClaimedError where another process has it.
func Claim(state string) (release func(), err error) {
	if err := stateOf(state); err != nil {
		return nil, err
	}
	f, err := private.Open(filepath.Join(state, claimFile), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &ClaimedError{state, holder(state)}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// Claimed reports whether a process is a host with this state directory.
func Claimed(state string) bool {
	f, err := private.Open(filepath.Join(state, claimFile), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// Unclaim removes what Claim has made. The caller has the state directory, and ends.
func Unclaim(state string) error { return os.Remove(filepath.Join(state, claimFile)) }

// holder is the pid that the lock names; 0: none.
func holder(state string) int {
	b, _ := os.ReadFile(filepath.Join(state, claimFile)) // empty: it is not known
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
