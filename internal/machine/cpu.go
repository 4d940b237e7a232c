package machine

import (
	"time"

	"holdfast/internal/process"
)

// CPU returns the processor time of nodes of this machine, by the pid of the process that was
// started. It is zero where the kernel does not tell.
func CPU(pids ...int) map[int]time.Duration {
	all := map[int]time.Duration{}
	for pid, figures := range process.FiguresOf(pids...) {
		all[pid] = figures.CPU
	}
	return all
}
