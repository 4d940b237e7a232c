package machine

import (
	"time"

	"holdfast/internal/process"
)

// CPU returns the processor time of nodes of this machine, by the pid of each node's first
// process. It is zero where the kernel does not report it.
func CPU(pids ...int) map[int]time.Duration {
	all := map[int]time.Duration{}
	for pid, figures := range process.FiguresOf(pids...) {
		all[pid] = figures.CPU
	}
	return all
}
