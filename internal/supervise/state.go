package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/private"
)

// minFree is the free disk space below which nothing is started: generated files, logs and an
// append-only file need some.
const minFree = 64 << 20 // bytes

// dir is the state directory of a stack:
//
//	lock          held by the supervisor; holds its pid
//	control.sock  the supervisor's control socket
//	stack.json    what outlives every process: booted, ports, secrets
//	running.json  what the stack runs as, node by node
//	services.json in pods, the addresses of their Services; package pod
//	change.json   the change that is under way; changes/ has those that have ended
//	logs/         supervisor.log, and a log for each node; package logs
//	logs.sock     the log writer's socket
//
// On each host, which may be this one, it has also what home reaches:
//
//	nodes/NODE/   a node's files and data; process.json tells what runs, and
//	              launch.json of a start that is not written there yet
type dir struct {
	root string // its absolute path
	// share copies a file to all hosts of the stack before it is written here, or removes it there
	// before it is removed here (nil content); nil: there is no other host.
	share func(name string, content []byte) error
}

// dirAt returns the state directory at a path.
func dirAt(root string) dir { return dir{root: root} }

// String returns the path of the directory.
func (d dir) String() string { return d.root }

func (d dir) path(elem ...string) string {
	return filepath.Join(append([]string{d.root}, elem...)...)
}

// open makes the directory if it is missing, and checks that it belongs to this user.
func (d dir) open() error {
	if err := os.MkdirAll(d.root, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	if err := d.checkOwner(); err != nil {
		return err
	}
	if err := private.CheckDir(d.root); err != nil {
		return err
	}
	if err := os.MkdirAll(d.path("logs"), 0o700); err != nil {
		return fmt.Errorf("make the directory for logs: %w", err)
	}
	return nil
}

// checkRoom refuses to start on a disk that is too full. Once the stack has begun, a full disk
// is only logged: what runs goes on, and is started again if that is possible.
func (s *Supervisor) checkRoom() error {
	for _, h := range s.hosts.all() {
		facts, err := h.Facts(s.ctx)
		if errors.Is(err, machine.ErrUnreachable) {
			continue
		}
		switch {
		case err != nil:
		case facts.DiskError != "":
			err = errors.New(facts.DiskError)
		case facts.FreeDisk < minFree:
			err = fmt.Errorf("the disk of %s is full: %d MiB are free and %d MiB are needed; make room, or choose another place with --state",
				h.Path(), facts.FreeDisk>>20, minFree>>20)
		}
		switch {
		case err == nil:
		case s.hosts.begun:
			s.log.Warn("a host may be without room for its nodes", "host", h.name, "error", err)
		default:
			return err
		}
	}
	return nil
}

// checkOwner refuses the state directory of another user, whose servers could not read what
// this user's servers write.
func (d dir) checkOwner() error {
	info, err := os.Stat(d.root)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the state directory %s belongs to user %d and you are user %d; run as that user, or choose another place with --state",
			d, st.Uid, os.Geteuid())
	}
	return nil
}

// LockedError is the error of opening a state directory that another supervisor holds.
type LockedError struct {
	Dir string
	PID int // 0: unknown
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("the stack is up already: supervisor %d works on %s", e.PID, e.Dir)
}

// lock locks the state directory for this process. The kernel unlocks it when the process ends,
// however it ends.
func (d dir) lock() (*os.File, error) {
	f, err := private.Open(d.path("lock"), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil, &LockedError{Dir: d.root, PID: d.lockHolder()}
	}
	// A purge removes the lock file while it holds the lock. A lock on a removed file keeps nobody
	// out.
	if mine, err := f.Stat(); err == nil {
		if there, err := os.Stat(f.Name()); err != nil || !os.SameFile(mine, there) {
			f.Close()
			return nil, fmt.Errorf("%s is being removed; try again", d)
		}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f, nil
}

// ownPID returns the pid of this process.
func ownPID() int { return os.Getpid() }

// Locked reports whether a supervisor holds the state directory.
func Locked(stateDir string) bool {
	f, err := private.Open(dirAt(stateDir).path("lock"), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// lockHolder returns the pid in the lock file; 0: there is none.
func (d dir) lockHolder() int {
	b, _ := os.ReadFile(d.path("lock"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// writeFile replaces a file of the state directory as a whole or not at all, also if power is
// lost midway.
func (d dir) writeFile(name string, mode fs.FileMode, content []byte) error {
	if d.share != nil {
		if err := d.share(name, content); err != nil {
			return fmt.Errorf("have the other hosts know %s: %w", name, err)
		}
	}
	return machine.WriteFile(d.path(name), mode, content)
}

// remove removes a file of the state directory. A missing file is not an error.
func (d dir) remove(name string) error {
	if d.share != nil {
		if err := d.share(name, nil); err != nil {
			return fmt.Errorf("have the other hosts forget %s: %w", name, err)
		}
	}
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d dir) writeJSON(name string, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	return d.writeFile(name, 0o600, b)
}

// readJSON reads a file into v; if the file is missing, it leaves v unchanged.
func (d dir) readJSON(name string, v any) error {
	b, err := private.Read(d.path(name))
	return decode(d.path(name), b, err, v)
}

// persistedState is the content of stack.json: what outlives every process of the stack.
type persistedState struct {
	// Booted is true once redis-1 was made the first master. From then on, the Sentinels remember
	// which node is the master.
	Booted bool `json:"booted"`
	// Ports has the ports of all nodes that the stack has ever had, so that a node which returns
	// to the stack file gets its former port.
	Ports   map[string]int `json:"ports"`
	Secrets plan.Secrets   `json:"secrets"`
	Redis   redisMemory    `json:"redis"`
	// Restored is the ID of the last backup that was restored on several hosts; empty: none was.
	Restored string `json:"restored,omitempty"`
	// Hosts are where the nodes run; empty: all run on this machine.
	Hosts []plan.Place `json:"hosts,omitempty"`
	// Placement says on which of several hosts each node is. Facts are the last known facts of
	// those hosts, needed while a host is away.
	Placement plan.Placement            `json:"placement,omitempty"`
	Facts     map[string]plan.HostFacts `json:"facts,omitempty"`
	// stay has nodes in the middle of a change: see plan.Facts.Stay. It is not written to the
	// file.
	stay map[string]plan.Place
}

const stateFile = "stack.json"

// readState reads stack.json. It returns an empty value if the file is missing.
func (d dir) readState() (k persistedState, err error) {
	err = d.readJSON(stateFile, &k)
	if err != nil && !errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("%w. Move it away, then take down what may still run ('holdfast down') and run 'holdfast up': ports and passwords are made anew, and who was the Redis master is read from the Sentinels' files", err)
	}
	return k, err
}

// saveState writes stack.json.
func (s *Supervisor) saveState() error { return s.dir.writeJSON(stateFile, s.persisted) }
