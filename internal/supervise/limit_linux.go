package supervise

import "golang.org/x/sys/unix"

// processLimit reads how many files a process may have open (RLIMIT_NOFILE).
func processLimit(pid int, limit *unix.Rlimit) error {
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, limit)
}
