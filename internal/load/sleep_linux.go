package load

import (
	"syscall"
	"time"
)

// sleep sleeps in the kernel, because Go's timers have a resolution of only a millisecond when
// nothing else runs (epoll_wait). A signal may end the sleep early.
func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
