// Package machine is what a supervisor does to one host of the stack: its nodes'
// files, processes, sockets, ports and logs. Machine is the interface, and Local
// does it on this machine. What is done, and when, is package supervise's.
//
// Everything that goes in and comes out is plain data, a connection or a Process,
// so that the calls can also be carried to another machine.
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
// files are relative to that directory, with slashes, and do not lead out of it.
//
// A method may fail with the error of its context when that has ended, and with an
// error of its own when the host cannot be reached. Errors that a caller has to
// recognise are those of this package, and fs.ErrNotExist. All methods are safe for
// concurrent use.
type Machine interface {
	Files
	Processes
	Network

	// Facts returns what the host is and has.
	Facts(ctx context.Context) (Facts, error)
	// Tail returns the last lines that a node has said since a time. What it has said
	// just before may take some 100 ms to be there, and is waited for.
	Tail(ctx context.Context, node string, since time.Time) []string
	// Close ends what the Machine does in the background, and waits for it. Nodes go
	// on running.
	Close() error
}

// Files are those of the state directory. They are the owner's alone: one that
// somebody else owns, or that is a link, is refused.
type Files interface {
	// Path returns the absolute path of a file on the host.
	Path(elem ...string) string
	// Write writes a file. Its directory is there.
	Write(ctx context.Context, f File) error
	// Read reads a whole file.
	Read(ctx context.Context, name string) ([]byte, error)
	// MakeDir makes a directory (0700), and those above it.
	MakeDir(ctx context.Context, name string) error
	// Stat looks at a file. It follows a link.
	Stat(ctx context.Context, name string) (Info, error)
	// Remove removes a file, or a directory with everything in it. One that is not
	// there is no error.
	Remove(ctx context.Context, name string) error
	// Rename gives a file or directory another name. A file that has that name is
	// replaced. It is safe from a loss of power when it returns.
	Rename(ctx context.Context, from, to string) error
	// Glob returns the names that match a pattern (path.Match), sorted.
	Glob(ctx context.Context, pattern string) ([]string, error)
	// LookOutside reads a file by its absolute path, which may lie anywhere, or the files of
	// a directory that have one of the endings, two levels deep. Links are followed. What is
	// as the caller knows it, by its digest, does not come again.
	LookOutside(ctx context.Context, path, known string, endings []string) (Outside, error)
}

// Processes are the host's. Programs are absolute paths.
type Processes interface {
	// Start starts a process of a node in a session of its own. Its output goes into
	// the node's log. It outlives the caller.
	Start(ctx context.Context, spec Spec) (Process, error)
	// Adopt takes over a process that runs. ErrGone: it has ended.
	Adopt(ctx context.Context, id ID) (Process, error)
	// Alive reports whether a process runs. A zombie does not. An error means that it is
	// not known.
	Alive(ctx context.Context, id ID) (bool, error)
	// Find returns the processes that were started with a trace, the oldest first.
	Find(ctx context.Context, t Trace) ([]ID, error)
	// Children returns the pids of the children of a process, where the host tells.
	Children(ctx context.Context, pid int) []int
	// LookPath returns the absolute path of a program with a bare name. It looks on PATH
	// and where distributions put servers. It returns exec.ErrNotFound where there is no such program.
	LookPath(ctx context.Context, name string) (string, error)
	// Digest returns a digest of a file's content, which may lie anywhere. A file that
	// has not changed is read once. A link is followed: /proc/PID/exe is a program that
	// runs, also when its file was replaced.
	Digest(ctx context.Context, path string) (string, error)
	// Run runs a program to its end. It is killed when the context ends. The error says
	// that it could not be run; what it thinks of its task is in Output.
	Run(ctx context.Context, program string, args ...string) (Output, error)
}

// Network is how the host's nodes are reached.
type Network interface {
	// Dial connects to a node. The network is tcp with host:port, or unix with a name
	// below the state directory. ErrRefused: nobody listens there.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Free returns nil when a TCP address can be listened on by somebody who does not
	// share it, and otherwise the kernel's reason. ErrTaken: somebody listens there.
	Free(ctx context.Context, address string) error
	// Holder names the process that listens on a TCP port, such as "redis-server (pid
	// 42)". It is empty when that cannot be seen, as for another user's process. It
	// looks at every process of the host.
	Holder(ctx context.Context, port int) string
	// Present reports whether the host is there, with its network. What dies on one that
	// is away comes back with it, and not before.
	Present(ctx context.Context) bool
}

// Process is a process of a host, in a session of its own. It is safe for concurrent
// use, and none of its methods waits for the process: one of another machine sends a
// signal on, and returns what that machine has told last.
type Process interface {
	// ID is what the process can be adopted by.
	ID() ID
	// Done is closed when the process has ended.
	Done() <-chan struct{}
	// Exit says how it ended; empty: it has not.
	Exit() string
	// Signal sends a signal to the process alone. ErrGone: it has ended.
	Signal(sig syscall.Signal) error
	// SignalGroup sends a signal to the process and its children.
	SignalGroup(sig syscall.Signal) error
	// Stopped reports whether the process is stopped (SIGSTOP).
	Stopped() bool
}

// ID tells a process of a host from every other one, also from a later one with the
// same pid.
type ID = process.ID

// File is a file to write.
type File struct {
	Name    string
	Mode    fs.FileMode
	Content []byte
	// InPlace has the file be written over where it is, and made when it is not there.
	// That needs no room on a full disk, but a crash may leave half of it, and a shorter
	// content leaves the end of the former one. Otherwise the file is replaced whole or
	// not at all, also when power is lost midway.
	InPlace bool
}

// Info is what is known of a file.
type Info struct {
	Size     int64 // bytes
	Modified time.Time
	// Regular is true for an ordinary file that no link leads to.
	Regular bool
}

// Spec is a process to start.
type Spec struct {
	// Node has the log that the output goes into, and is at home in nodes/NODE.
	Node string
	// Program is its absolute path.
	Program string
	Args    []string
	Env     []string // the whole environment
	// Dir is the absolute path of its working directory; empty: the node's home.
	Dir string
	// Private keeps what it writes from other users (umask 077).
	Private bool
}

// Trace is what a process was started with.
type Trace struct {
	// Node has the log that the output goes into.
	Node string
	// Variable stands in its environment (NAME=VALUE). Some programs overwrite that, and
	// some replace their output, so one of the two is enough.
	Variable string
	// Since is when it was started at the earliest, in the unit of ID.Start.
	Since uint64
}

// Output is what a program that has ended leaves.
type Output struct {
	Text []byte // standard output and error
	Code int    // its exit status; -1: a signal ended it
	// How says the same in words, such as "exit status 1".
	How string
}

// Facts is what a host is and has.
type Facts struct {
	Cores int
	// Files is how many files a process of this user may have open; 0: unknown.
	Files int
	// HAProxyUser is the user that a HAProxy started by root drops to; empty: it is not
	// root that starts it, or there is no such user.
	HAProxyUser string
	// User is the user that the processes run as; empty: it has no name.
	User string
	// Names are what the host calls itself.
	Names []string
	// Links are its network interfaces with the addresses that they have now.
	Links []Link
	// SetsAddresses is true where a keepalived may set addresses: it is root that starts
	// it, or it has CAP_NET_ADMIN and CAP_NET_RAW.
	SetsAddresses bool
	// FreeDisk is the room that is left for the state directory, in bytes. DiskError is why
	// that is not known; empty: it is.
	FreeDisk  uint64
	DiskError string
	// Now is the time in the unit of ID.Start; 0: unknown.
	Now uint64
	// Self is the path of Holdfast's program there; empty: it is the caller's.
	Self string
	// Across is true when connections to the nodes cross a network that may be cut while
	// the host is well: a node that does not answer is then perhaps not silent.
	Across bool
}
