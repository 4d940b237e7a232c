package logs

import "golang.org/x/sys/unix"

// enlarge gives a pipe the largest buffer that a user may ask for (pipe(7), pipe-max-size), so that
// a node can go on writing while the writer restarts. A user with many pipes gets a small buffer,
// and the node then waits for a moment.
func enlarge(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 1<<20) }
