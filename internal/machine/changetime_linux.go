package machine

import (
	"syscall"
	"time"
)

// changeTime is when a file, or what is told of it, was last changed.
func changeTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Ctim.Unix()) }
