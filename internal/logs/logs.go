// Package logs is what the nodes of a stack say: a process of its own, the log
// writer, reads it from a named pipe for each node, stamps each line with the
// time, and stores it in files that never take more than their share of the
// disk. Here are also the reading of these files and the words by which a
// supervisor and the log writer talk. Which nodes there are, and when the
// writer runs, is package supervise's affair.
//
// The nodes outlive their supervisor, and so does the writer: while one of the
// two runs, no node waits. A node has its pipe open for reading too, so that a
// writer that dies is neither an error nor the end of a file to it; what the
// node says meanwhile waits in the pipe for the next writer.
package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// A file that would grow beyond fileSize is set aside as .1, the one before
	// it as .2, up to .3: at most 40 MiB for each node, and never more.
	fileSize = 10 << 20 // bytes
	fileKeep = 3

	suffix     = ".log"
	pipeSuffix = ".pipe"
)

// Supervisor is the name under which the log of the supervisor itself stands
// beside the nodes' logs.
const Supervisor = "supervisor"

// Dir is the directory of the logs of a stack with that state directory.
func Dir(state string) string { return filepath.Join(state, "logs") }

// File is the newest log file of a node.
func File(state, node string) string { return filepath.Join(Dir(state), node+suffix) }

// Pipe is where the node writes to.
func Pipe(state, node string) string { return filepath.Join(Dir(state), node+pipeSuffix) }

// socket is where the writer listens. It is in the state directory itself
// because the path of a socket may have about a hundred bytes only.
func socket(state string) string { return filepath.Join(state, SocketName) }

// SocketName is the name of the writer's socket in the state directory.
const SocketName = "logs.sock"

// lockFile is held by the writer as long as it lives, and tells its identity.
func lockFile(state string) string { return filepath.Join(Dir(state), "writer.lock") }

// OpenPipe opens a node's named pipe, to be the node's output; it makes one
// where there is none. It is open for reading too, so that the node gets no
// SIGPIPE, and blocks only when the pipe is full.
func OpenPipe(state, node string) (*os.File, error) {
	path := Pipe(state, node)
	err := makePipe(path)
	if err != nil {
		return nil, fmt.Errorf("make the pipe for the log of %s: %w", node, err)
	}
	// Not os.OpenFile, which would make it non-blocking, for the node as well.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	enlarge(fd)
	return os.NewFile(uintptr(fd), path), nil
}

func makePipe(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeNamedPipe:
		return nil
	default:
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return unix.Mkfifo(path, 0o600)
}

// Nodes are the names of those that have a log, sorted.
func Nodes(state string) ([]string, error) { return named(state, suffix) }

func named(state, suffix string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(Dir(state)), "*"+suffix))
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(path), suffix)
	}
	return paths, err
}

// escapeGlob makes a path a pattern that matches nothing but it.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
