package process

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB, stopped is SSTOP of macOS' sys/proc.h.
const (
	zombie  = 5
	stopped = 4
)

// identify reads the identity of a process, a zombie's too.
func identify(pid int) (ID, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return ID{}, err
	}
	if int(info.Proc.P_pid) != pid {
		return ID{}, fmt.Errorf("no process %d", pid)
	}
	start := info.Proc.P_starttime
	return ID{PID: pid, Start: uint64(start.Sec)*1e6 + uint64(start.Usec)}, nil
}

// state is the process' state in proc(5)'s letters, as far as they matter here.
func state(pid int) (byte, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	switch info.Proc.P_stat {
	case zombie:
		return 'Z', nil
	case stopped:
		return 'T', nil
	}
	return 'S', nil
}

// watch answers a channel that is closed when the process ends.
func watch(id ID) (<-chan struct{}, error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for Alive(id) {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return ended, nil
}

// Children are the pids of a process' children; none where that cannot be seen.
func Children(int) []int { return nil }
