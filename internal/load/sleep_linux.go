package load

import (
	"syscall"
	"time"
)

// sleep sleeps in the kernel: Go's timers are as coarse as a millisecond when
// nothing else runs (epoll_wait). A signal may end it early.
func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
