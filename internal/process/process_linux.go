package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// boot returns the kernel's random ID of this boot.
var boot = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})

// identify returns the ID of a process, which may be a zombie.
func identify(pid int) (ID, error) {
	b, err := boot()
	if err != nil {
		return ID{}, err
	}
	fields, err := stat(pid)
	if err != nil {
		return ID{}, err
	}
	// Field 22 of proc(5)'s /proc/pid/stat is starttime; fields[0] is field 3.
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: start, Boot: b}, nil
}

// state returns the state letter of a process: R, S, D, Z (zombie), T (stopped)…
func state(pid int) (byte, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return fields[0][0], nil
}

// stat returns the fields of /proc/pid/stat that follow the command, which may itself
// contain blanks and parentheses. There are at least 20.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[end+1:]))
	if end < 0 || len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat: %q is not what proc(5) describes", pid, b)
	}
	return fields, nil
}

// watch returns a channel that is closed when the process ends. It uses a pidfd, which
// works also for a process that is not a child of this one, or that stays a zombie.
func watch(id ID) (<-chan struct{}, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		if err == unix.ESRCH {
			return nil, ErrGone
		}
		return nil, fmt.Errorf("watch process %d: %w", id.PID, err)
	}

	// Checked again, because another process may have got the pid before it was opened.
	if !Alive(id) {
		unix.Close(fd)
		return nil, ErrGone
	}

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer unix.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			if n, err := unix.Poll(fds, -1); n > 0 || (err != nil && err != unix.EINTR) {
				return
			}
		}
	}()
	return ended, nil
}

// Children returns the pids of a process's children, or nil if they cannot be seen.
func Children(pid int) (pids []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for _, word := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(word); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
