package process

import "time"

// Figures are what a node takes: its process and all that it has started in its
// session. They are zero where the kernel does not tell.
type Figures struct {
	// CPU is the processor time of all, also of those that have ended.
	CPU time.Duration
	// Memory is the resident memory of all, in bytes; pages that they share count
	// for each.
	Memory int64
	// OpenFiles are those of the process that has most, of MaxFiles that it may
	// have.
	OpenFiles, MaxFiles int
	// Age is how long ago the first one was started, by a clock that nobody sets.
	Age time.Duration
	// Replaced is true when the file of its program is another one now.
	Replaced bool
	// HugePages is true when the kernel gives it transparent huge pages unasked.
	HugePages bool
}
