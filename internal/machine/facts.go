package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/hostname"
	"holdfast/internal/process"
)

// Facts implements Machine.
func (m *Local) Facts(context.Context) (Facts, error) {
	facts := Facts{
		User: userName(), SetsAddresses: setsAddresses("keepalived"),
		Cores: runtime.NumCPU(), Files: openFiles(), HAProxyUser: haproxyUser(), Names: Names(),
		Now: process.Now(),
	}
	var err error
	if facts.Links, err = links(); err != nil {
		return facts, err
	}
	free, err := FreeDisk(m.dir)
	if err != nil { // not an error of Facts: the start of a node needs only the other facts
		facts.DiskError = err.Error()
	}
	facts.FreeDisk = free
	return facts, nil
}

// Names returns the names of this machine: its host name, and its name in multicast DNS
// (RFC 6762).
func Names() []string {
	name, err := os.Hostname()
	if err != nil {
		return nil
	}
	var names []string
	short, _, _ := strings.Cut(name, ".")
	for _, name := range []string{name, short + ".local"} {
		if _, err := hostname.New(name); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// haproxyUser returns the user that a HAProxy started by root switches to. It is empty if this
// user is not root, or if the distribution made no such user.
func haproxyUser() string {
	const name = "haproxy"
	if os.Geteuid() != 0 {
		return ""
	}
	if _, err := user.Lookup(name); err != nil {
		return ""
	}
	return name
}

// openFiles returns how many files a process of this user may have open, or 0 if unknown. It is
// the hard limit, to which HAProxy raises its soft limit itself.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Max, 1<<30))
}

// FreeDisk returns the room that is left on the disk of a directory, in bytes. For a directory
// that does not exist yet, it is the disk of the nearest directory above it.
func FreeDisk(dir string) (uint64, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	for at := dir; errors.Is(err, unix.ENOENT) && at != filepath.Dir(at); {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &fs)
	}
	if err != nil {
		return 0, fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
