package process

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB and stopped is SSTOP of sys/proc.h of macOS.
const (
	zombie  = 5
	stopped = 4
)

// identify returns the ID of a process, which may be a zombie.
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

// state returns the state of a process as a letter of proc(5). It tells apart only the
// states that matter here.
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

// watch returns a channel that is closed when the process ends. It polls every 100 ms.
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

// Children returns nil: the children of a process are not known on macOS.
func Children(int) []int { return nil }
