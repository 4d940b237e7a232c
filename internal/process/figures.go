package process

import "time"

// Figures are what a node uses: its first process, and all others of that one's
// session. They are zero where the kernel does not report them.
type Figures struct {
	// CPU is the processor time of all of them, including children that have ended.
	CPU time.Duration
	// Memory is the resident memory of all of them, in bytes. A shared page counts
	// once for each process.
	Memory int64
	// OpenFiles is the number of open files of the process that has the most, and
	// MaxFiles is the limit of that process.
	OpenFiles, MaxFiles int
	// Age is how long ago the first process was started, by a clock that cannot be set.
	Age time.Duration
	// Replaced is true if the file of its program was deleted or replaced since.
	Replaced bool
	// HugePages is true if the kernel may give it transparent huge pages unasked.
	HugePages bool
}
