// Package machine is a supervisor's access to one host of the stack: the files,
// processes, sockets, ports and logs of its nodes. Machine is the interface. Local
// implements it on this machine (local.go, local_process.go, local_network.go, and
// outside.go for files outside the state directory). Package agent implements it for
// another host, and Elsewhere stands for a host that is only connected to.
//
// All arguments and results are plain data, a connection or a Process, so that calls
// can be sent to another machine. What is done, and when, is decided in package
// supervise.
package machine

import (
	"context"
	"io/fs"
	"net"
	"syscall"
	"time"

	"holdfast/internal/process"
)

// Machine is one host of the stack, with a state directory of its own. Names of
// files are relative to that directory, with slashes, and must not lead out of it.
//
// A method may fail with the error of its context when the context has ended, and
// with ErrUnreachable when the host cannot be reached. The errors that a caller has
// to recognize are those of this package, and fs.ErrNotExist. All methods are safe
// for concurrent use.
type Machine interface {
	Files
	Processes
	Network

	// Facts returns facts about the host, such as its cores and its free disk.
	Facts(ctx context.Context) (Facts, error)
	// Tail returns the last lines of a node's log since a time. Output takes some 100 ms
	// to reach the log, and Tail waits that long.
	Tail(ctx context.Context, node string, since time.Time) []string
	// Close ends the Machine's work in the background, and waits for it. The nodes go on
	// running.
	Close() error
}

// Files are the files of the state directory. They must belong to the user that
// Holdfast runs as: a file of another owner, and a link, is refused.
type Files interface {
	// Path returns the absolute path of a file on the host.
	Path(elem ...string) string
	// Write writes a file. Its directory must exist.
	Write(ctx context.Context, f File) error
	// Read reads a whole file.
	Read(ctx context.Context, name string) ([]byte, error)
	// MakeDir makes a directory with mode 0700, and those above it.
	MakeDir(ctx context.Context, name string) error
	// Stat returns what is known about a file. It follows a link.
	Stat(ctx context.Context, name string) (Info, error)
	// Remove removes a file, or a directory with everything in it. It is no error if
	// there is none.
	Remove(ctx context.Context, name string) error
	// Rename renames a file or directory, and replaces a file of the new name. When it
	// returns, the new name survives a loss of power.
	Rename(ctx context.Context, from, to string) error
	// Glob returns the names that match a pattern (path.Match), sorted.
	Glob(ctx context.Context, pattern string) ([]string, error)
	// LookOutside reads a file outside the state directory, by its absolute path, or those
	// files of a directory, two levels deep, that have one of the endings. It follows links.
	// If the digest is still the one that the caller knows, no content is returned.
	LookOutside(ctx context.Context, path, known string, endings []string) (OutsideFiles, error)
}

// Processes are the processes of the host. Programs are given by absolute paths.
type Processes interface {
	// Start starts a process of a node in a session of its own. Its output goes to the
	// node's log. The process outlives the caller.
	Start(ctx context.Context, spec Spec) (Process, error)
	// Adopt takes over a running process. The error is ErrGone if it has ended.
	Adopt(ctx context.Context, id ID) (Process, error)
	// Alive reports whether a process runs; a zombie does not. An error means that this
	// is not known.
	Alive(ctx context.Context, id ID) (bool, error)
	// Find returns the processes that match a trace, the oldest first.
	Find(ctx context.Context, t Trace) ([]ID, error)
	// Children returns the pids of a process's children, or nothing if the host cannot
	// tell them.
	Children(ctx context.Context, pid int) []int
	// LookPath returns the absolute path of a program with a bare name. It looks on PATH
	// and where distributions put servers. The error is exec.ErrNotFound if there is no
	// such program.
	LookPath(ctx context.Context, name string) (string, error)
	// Digest returns a digest of the content of any file of the host. A file that has not
	// changed is read once. A link is followed, so /proc/PID/exe gives the program that a
	// process runs, even if its file was replaced since.
	Digest(ctx context.Context, path string) (string, error)
	// Run runs a program to its end, and kills it when the context ends. It returns an
	// error only if the program could not be run; a failure of the program itself is in
	// Output.
	Run(ctx context.Context, program string, args ...string) (Output, error)
}

// Network is the network of the host, by which its nodes are reached.
type Network interface {
	// Dial connects to a node. The network is tcp with host:port, or unix with a name
	// below the state directory. The error is ErrRefused if no process listens there.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Free returns nil if a process could listen on a TCP address without sharing it, and
	// otherwise the kernel's reason. The error is ErrTaken if a process listens there.
	Free(ctx context.Context, address string) error
	// Holder returns the name of the process that listens on a TCP port, such as
	// "redis-server (pid 42)". It is empty if that cannot be seen, for example for
	// another user's process. Holder is slow: it looks at every process of the host.
	Holder(ctx context.Context, port int) string
	// Present reports whether the host and its network can be reached. A node of a host
	// that is away cannot be restarted before the host is back.
	Present(ctx context.Context) bool
}

// Process is a process of a host, in a session of its own. It is safe for concurrent
// use. None of its methods waits: for a process of another machine, a signal is sent in
// the background, and the state is the last one that the machine has reported.
type Process interface {
	// ID returns the identity by which the process can be adopted.
	ID() ID
	// Done returns a channel that is closed when the process has ended.
	Done() <-chan struct{}
	// Exit returns how the process ended, or "" if it has not.
	Exit() string
	// Signal sends a signal to the process alone. The error is ErrGone if it has ended.
	Signal(sig syscall.Signal) error
	// SignalGroup sends a signal to the process and its children.
	SignalGroup(sig syscall.Signal) error
	// Stopped reports whether the process is stopped (SIGSTOP).
	Stopped() bool
}

// ID identifies a process of a host. A later process with the same pid has another ID.
type ID = process.ID

// File is a file to write.
type File struct {
	Name    string
	Mode    fs.FileMode
	Content []byte
	// InPlace makes Write overwrite the file in place, and make it if there is none. That
	// needs no room on a full disk. But a crash may leave half of the content, and shorter
	// content leaves the end of the former one. Without InPlace the file is replaced whole
	// or not at all, even if the power fails meanwhile.
	InPlace bool
}

// Info is what Stat returns about a file.
type Info struct {
	Size     int64 // bytes
	Modified time.Time
	// Regular is true for an ordinary file; it is false for a symbolic link to one.
	Regular bool
}

// Spec is a process to start.
type Spec struct {
	// Node is the node's name. The output goes to its log, and its home is nodes/NODE.
	Node string
	// Program is the absolute path of the program.
	Program string
	Args    []string
	Env     []string // the whole environment
	// Dir is the absolute path of the working directory, or empty for the node's home.
	Dir string
	// Private keeps the files that it makes from other users (umask 077).
	Private bool
}

// Trace is what a process was started with, by which Find finds it.
type Trace struct {
	// Node is the node to whose log the output goes.
	Node string
	// Variable is a variable of its environment (NAME=VALUE). Some programs overwrite their
	// environment, and some redirect their output, so a match of one of the two is enough.
	Variable string
	// Since is the earliest start, in the unit of ID.Start.
	Since uint64
}

// Output is the output and the exit status of a program that has ended.
type Output struct {
	Text []byte // standard output and error
	Code int    // the exit status, or -1 if a signal ended it
	// How is the exit status as a text, such as "exit status 1".
	How string
}

// Facts are facts about a host.
type Facts struct {
	Cores int
	// Files is how many files a process of this user may have open, or 0 if unknown.
	Files int
	// HAProxyUser is the user that a HAProxy started by root switches to. It is empty if
	// Holdfast does not run as root, or if there is no such user.
	HAProxyUser string
	// User is the name of the user that the processes run as, or empty if it has none.
	User string
	// Names are the host's own names.
	Names []string
	// Links are its network interfaces with their present addresses.
	Links []Link
	// SetsAddresses reports whether a keepalived may set addresses: it would inherit
	// CAP_NET_ADMIN and CAP_NET_RAW, or its file has capabilities.
	SetsAddresses bool
	// FreeDisk is the free room on the disk of the state directory, in bytes. If it is not
	// known, DiskError tells why.
	FreeDisk  uint64
	DiskError string
	// Now is the time in the unit of ID.Start, or 0 if unknown.
	Now uint64
	// Self is the path of Holdfast's program on the host. It is empty if that is the
	// caller's own path.
	Self string
	// Across is true if connections to the nodes cross a network. The network can be cut
	// while the host is well, so a node that does not answer is not necessarily hung.
	Across bool
}
