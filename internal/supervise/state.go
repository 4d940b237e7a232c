package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"holdfast/internal/private"
	"holdfast/internal/process"
)

// minFree is the disk space below which nothing is started: generated files,
// logs and an append-only file need some.
const minFree = 64 << 20 // bytes

// dir is the state directory of a stack:
//
//	lock          held by the supervisor; holds its pid
//	control.sock  the supervisor's control socket
//	stack.json    what outlives every process: booted, ports, secrets
//	running.json  what the stack runs as, node by node
//	change.json   the change that is under way; changes/ has those that have ended
//	nodes/NODE/   a node's files and data; process.json tells what runs, and
//	              launch.json of a start that is not written there yet
//	logs/         a log for each node, and supervisor.log; package logs
//	logs.sock     the log writer's socket
type dir string

func (d dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// open makes the directory when it is missing, and checks that it is ours.
func (d dir) open() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	if err := d.checkOwner(); err != nil {
		return err
	}
	if err := private.CheckDir(string(d)); err != nil {
		return err
	}
	if err := os.MkdirAll(d.path("logs"), 0o700); err != nil {
		return fmt.Errorf("make the directory for logs: %w", err)
	}
	return nil
}

// checkRoom refuses a disk that is too full to start anything.
func (d dir) checkRoom() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(string(d), &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", d, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < minFree {
		return fmt.Errorf("the disk of %s is full: %d MiB are free and %d MiB are needed; make room, or choose another place with --state",
			d, free>>20, minFree>>20)
	}
	return nil
}

// checkOwner refuses the state directory of another user: what one user's
// servers write the other's could not read.
func (d dir) checkOwner() error {
	info, err := os.Stat(string(d))
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the state directory %s belongs to user %d and you are user %d; run as that user, or choose another place with --state",
			d, st.Uid, os.Geteuid())
	}
	return nil
}

// LockedError says that a supervisor of the stack runs already.
type LockedError struct {
	Dir string
	PID int // 0: unknown
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("the stack is up already: supervisor %d works on %s", e.PID, e.Dir)
}

// lock takes the state directory for this process. The kernel gives it back
// when the process ends, however it ends.
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
		return nil, &LockedError{Dir: string(d), PID: d.lockHolder()}
	}
	// Whoever purges the stack removes the file with its lock: a lock on a file
	// that is gone keeps nobody out.
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

// Locked reports whether a supervisor holds the state directory.
func Locked(stateDir string) bool {
	f, err := private.Open(dir(stateDir).path("lock"), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// lockHolder is the pid that the lock file names; 0: none.
func (d dir) lockHolder() int {
	b, _ := os.ReadFile(d.path("lock"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// writeFile replaces a file of the state directory whole or not at all, also
// when power is lost midway.
func (d dir) writeFile(name string, mode fs.FileMode, content []byte) error {
	// The temporary file lies beside its target, whatever TMPDIR says: a
	// rename does not cross file systems.
	target := d.path(name)
	if err := renameio.WriteFile(target, content, mode, renameio.WithTempDir(filepath.Dir(target))); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	// The rename itself is only safe when the directory is.
	parent, err := os.Open(filepath.Dir(target))
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return nil
}

func (d dir) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return d.writeFile(name, 0o600, append(b, '\n'))
}

// readJSON reads a file into v; a missing one leaves v alone.
func (d dir) readJSON(name string, v any) error {
	b, err := private.Read(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", d.path(name), err)
	}
	return nil
}

// want is what the operator wants of a node.
type want string

const (
	wantUp      want = "up"
	wantDown    want = "down"
	wantPaused  want = "paused"
	processFile      = "process.json"
)

// record is what outlives the supervisor about one node: nodes/NODE/process.json.
type record struct {
	Process process.ID `json:"process"`
	// Plan is a digest of what was started: a node whose plan has changed is
	// started anew.
	Plan    string `json:"plan"`
	Want    want   `json:"want"`
	Address string `json:"address"`
	// State is what the node was last seen to settle in (up, paused or down),
	// Since when it did, and Restarts and Crashes as in NodeStatus.
	State    State     `json:"state,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts,omitempty"`
	Crashes  int       `json:"crashes,omitempty"`
	// Tokens is a digest of the tokens file as the process has read it; empty: it has
	// none, or nobody knows.
	Tokens string `json:"tokens,omitempty"`
}

func (d dir) readRecord(node string) (record, error) {
	var r record
	err := d.readJSON(filepath.Join("nodes", node, processFile), &r)
	return r, err
}

// recorded returns the nodes that have a record, in the order of their names: also those
// that the stack does not have any more.
func (d dir) recorded() (nodes []string) {
	paths, _ := filepath.Glob(d.path("nodes", "*", processFile))
	for _, path := range paths {
		nodes = append(nodes, filepath.Base(filepath.Dir(path)))
	}
	return nodes
}

// alive reports whether the process of a node's record runs.
func (d dir) alive(node string) bool {
	r, err := d.readRecord(node)
	return err == nil && r.Process.PID != 0 && process.Alive(r.Process)
}

func (d dir) writeRecord(node string, r record) error {
	return d.writeJSON(filepath.Join("nodes", node, processFile), r)
}

// empty reports whether a redis node has no data on disk that it would load.
// With the append-only file on, Redis 7 loads what the manifest lists and
// nothing else: not a snapshot, nor files that no manifest names.
func (d dir) empty(node string) bool {
	info, err := os.Stat(d.manifest(node))
	return err != nil || info.Size() == 0
}

// manifest names the files of a redis node's append-only file, beside which they
// lie.
func (d dir) manifest(node string) string {
	return d.path("nodes", node, "data", "appendonlydir", "appendonly.aof.manifest")
}
