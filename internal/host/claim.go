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

// claimFile is locked by the process that runs this host. It is not the lock of the state
// directory (package supervise): that one belongs to the supervisor, which starts and ends
// with the leadership.
const claimFile = "host.lock"

// ClaimedError is the error when another process runs this host already.
type ClaimedError struct {
	Dir string
	PID int // 0: unknown
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("this host is up already: process %d works on %s", e.PID, e.Dir)
}

// Claim locks a state directory for the process that is to run the host, and makes the
// directory if there is none. The kernel releases the lock when the process ends, however it
// ends. If another process holds the lock, the error is a *ClaimedError.
func Claim(state string) (release func(), err error) {
	if err := makeStateDir(state); err != nil {
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

// Claimed reports whether a process runs a host with this state directory.
func Claimed(state string) bool {
	f, err := private.Open(filepath.Join(state, claimFile), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// Unclaim removes the lock file that Claim made. Its caller holds the lock, and is about to
// end.
func Unclaim(state string) error { return os.Remove(filepath.Join(state, claimFile)) }

// holder returns the pid that the lock file names, or 0 if it names none.
func holder(state string) int {
	b, _ := os.ReadFile(filepath.Join(state, claimFile)) // a failure leaves the pid at 0: unknown
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
