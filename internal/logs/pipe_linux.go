package logs

import "golang.org/x/sys/unix"

// enlarge gives a pipe the room that a user may ask for (pipe(7),
// pipe-max-size): a node writes on while the writer is started again. With
// little room, which a user with many pipes gets, it waits a moment.
func enlarge(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 1<<20) }
