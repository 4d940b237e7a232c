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
	if err != nil { // what a node's start asks for is known all the same
		facts.DiskError = err.Error()
	}
	facts.FreeDisk = free
	return facts, nil
}

// Names are the names of this machine: what it calls itself, and the same
// where names are told by multicast (RFC 6762).
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

// haproxyUser is the user that a HAProxy started by root drops to; empty when
// it is not root that starts it, or the distribution made no such user.
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

// openFiles is how many files a process of this user may have open; 0: unknown.
// HAProxy raises its soft limit to the hard one by itself.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Max, 1<<30))
}

// FreeDisk is the room that is left for a directory, in bytes. One that is not there yet
// is going to be where the directory above it is.
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
