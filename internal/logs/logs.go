// Package logs stores what the nodes of a stack write to their output, and reads it again.
//
// A process of its own, the log writer (writer.go), reads a named pipe for each node (pump.go),
// stamps each line with the time (line.go), passes it on through an outbox (outbox.go), and stores
// it in files of limited size (store.go). Reader reads the files of one node (read.go), and Merged
// those of several (merge.go). Client is how a supervisor talks to the log writer (client.go).
// Package supervise decides which nodes exist, and when the writer runs.
//
// The nodes outlive their supervisor, and so does the writer: as long as one of the two runs, no
// node has to wait. A node also has the reading end of its pipe open. So if the writer dies, the
// node gets no error and no end of file, and its output waits in the pipe for the next writer.
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
	// A file that would grow beyond fileSize is renamed to .1, the one before it to .2, up to .3.
	// So a node's logs take at most 40 MiB.
	fileSize = 10 << 20 // bytes
	fileKeep = 3

	suffix     = ".log"
	pipeSuffix = ".pipe"
)

// Supervisor is the name of the supervisor's own log, next to the nodes' logs.
const Supervisor = "supervisor"

// Dir returns the directory of the logs of a stack with that state directory.
func Dir(state string) string { return filepath.Join(state, "logs") }

// File returns the path of the newest log file of a node.
func File(state, node string) string { return filepath.Join(Dir(state), node+suffix) }

// Pipe returns the path of the pipe to which the node writes.
func Pipe(state, node string) string { return filepath.Join(Dir(state), node+pipeSuffix) }

// socket returns the path of the writer's socket. It is directly in the state directory, because
// the path of a socket is limited to about 100 bytes.
func socket(state string) string { return filepath.Join(state, SocketName) }

// SocketName is the name of the writer's socket in the state directory.
const SocketName = "logs.sock"

// lockFile returns the path of the file that the writer locks while it lives. The file holds the
// writer's identity.
func lockFile(state string) string { return filepath.Join(Dir(state), "writer.lock") }

// OpenPipe opens a node's named pipe as the node's output, and creates it if necessary. It also
// opens the reading end, so that the node never gets SIGPIPE, and blocks only when the pipe is
// full.
func OpenPipe(state, node string) (*os.File, error) {
	path := Pipe(state, node)
	err := makePipe(path)
	if err != nil {
		return nil, fmt.Errorf("make the pipe for the log of %s: %w", node, err)
	}
	// os.OpenFile would make the pipe non-blocking, for the node as well.
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

// Nodes returns the names of the nodes that have a log, sorted.
func Nodes(state string) ([]string, error) { return named(state, suffix) }

func named(state, suffix string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(Dir(state)), "*"+suffix))
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(path), suffix)
	}
	return paths, err
}

// escapeGlob turns a path into a pattern that matches nothing else.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
