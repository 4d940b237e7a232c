package machine

import (
	"syscall"
	"time"
)

// changeTime returns when a file's content or metadata was last changed.
func changeTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Ctimespec.Unix()) }
