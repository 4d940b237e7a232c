package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"holdfast/internal/control"
	part "holdfast/internal/host"
	"holdfast/internal/private"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// step undoes one thing. It is data and not code, so that it outlives the drill: any process that
// finds it can carry it out. A step has one of Signal, Command, Remove, Unmount, Follow, Uncut,
// Changed and Keys.
type step struct {
	ID  int    `json:"id"`
	Why string `json:"why"`

	// Signal is sent to Process if that still runs, and to its process group unless Alone is set.
	Signal  syscall.Signal `json:"signal,omitempty"`
	Process process.ID     `json:"process,omitzero"`
	Alone   bool           `json:"alone,omitempty"`
	// Host is the host of the process if it is one of several. By is the state directory of this
	// host, whose holdfast process passes the signal on. Both empty: the process is on this
	// machine.
	Host string `json:"host,omitempty"`
	By   string `json:"by,omitempty"`
	// Command is a program and its arguments; Input is its standard input.
	Command []string `json:"command,omitempty"`
	Input   string   `json:"input,omitempty"`
	// Limit limits how long the command may take; 0: commandLimit.
	Limit time.Duration `json:"limit,omitempty"`
	// Remove is a file, or a directory with all its contents. Unmount is a mount point.
	Remove  string `json:"remove,omitempty"`
	Unmount string `json:"unmount,omitempty"`
	// Follow makes a replica follow its master again.
	Follow *followUndo `json:"follow,omitempty"`
	// Uncut ends the cut of a user's host.
	Uncut *cutUndo `json:"uncut,omitempty"`
	// Changed takes back a change of the stack.
	Changed *changeUndo `json:"changed,omitempty"`
	// Keys removes the keys of a drill.
	Keys *leftKeys `json:"keys,omitempty"`
	// Supervised is the state directory of a stack: nothing is left to undo if a supervisor looks
	// after it. Running is the state directory of a stack: nothing is left to undo if none of its
	// nodes runs, because somebody has taken it down meanwhile.
	Supervised string `json:"supervised,omitempty"`
	Running    string `json:"running,omitempty"`
	// Claimed is the state directory of one of several hosts: nothing is left to undo if its
	// holdfast process runs.
	Claimed string `json:"claimed,omitempty"`
	// Awaited: the step waits until the process that got the signal has ended.
	Awaited bool `json:"awaited,omitempty"`
	// MustSucceed: the steps before this one take away what it needs, so they are undone only after
	// it has succeeded.
	MustSucceed bool `json:"bearing,omitempty"`
	// Unless is a path: if it does not exist, there is nothing to undo.
	Unless string `json:"unless,omitempty"`
}

// perform carries the step out. It is no error if nothing is left to undo.
func (s step) perform() error {
	if s.Unless != "" {
		if _, err := os.Stat(s.Unless); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}

	if s.Supervised != "" && supervise.Locked(s.Supervised) {
		return nil
	}
	if s.Claimed != "" && staysClaimed(s.Claimed) {
		return nil
	}
	if s.Running != "" {
		if runs, err := supervise.Running(s.Running); err != nil || !runs {
			return err
		}
	}

	switch {
	case s.Signal != 0 && s.Host != "":
		return s.signalRemote()
	case s.Signal != 0:
		if err := process.Signal(s.Process, s.Signal, !s.Alone); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
		if s.Awaited {
			return await(context.Background(), "the end of "+s.Why, commandLimit, func() bool { return !process.Alive(s.Process) })
		}
	case len(s.Command) > 0:
		return s.command()
	case s.Follow != nil:
		return s.Follow.perform()
	case s.Uncut != nil:
		return s.Uncut.perform()
	case s.Changed != nil:
		return s.Changed.perform()
	case s.Keys != nil:
		return s.Keys.perform()
	case s.Unmount != "":
		if err := syscall.Unmount(s.Unmount, 0); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %s: %w", s.Unmount, err)
		}
	case s.Remove != "":
		return os.RemoveAll(s.Remove)
	}
	return nil
}

// signalRemote sends the signal to a process of another host. If that host cannot be reached, the
// process continues by itself after control.StoppedLimit.
func (s step) signalRemote() (err error) {
	by := processesOf(s.By)
	_ = await(context.Background(), "", control.StoppedLimit, func() bool {
		err = by.signal(s.Host, s.Process, s.Signal, true)
		return err == nil
	})
	return err
}

// staysClaimed reports whether the holdfast process of a host runs. It looks for up to a second,
// because a process killed a moment ago holds its lock until its last thread has ended.
func staysClaimed(state string) bool {
	return await(context.Background(), "", time.Second, func() bool { return !part.Claimed(state) }) != nil
}

// commandLimit limits how long an undoing command may take; taking a stack down is the longest.
// commandGrace is how long the command may then take to end.
const commandLimit, commandGrace = 90 * time.Second, 5 * time.Second

// command runs the step's command in a process group of its own: neither the Ctrl-C that ends the
// drill nor a second one may interrupt the undoing.
func (s step) command() error {
	limit := cmp.Or(s.Limit, commandLimit)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = commandGrace
	cmd.Stdin = strings.NewReader(s.Input)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done within %v: %w", limit, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(s.Command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// journal holds on disk what the drill has to undo. Each step is written before the harm is done.
// It is safe for concurrent use.
type journal struct {
	path string

	mu    sync.Mutex
	steps []step
	next  int
}

// openJournal reads what an earlier drill left to undo. The caller has to undo that first.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path}
	b, err := private.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &j.steps); err != nil {
		return nil, fmt.Errorf("%s, which says what an earlier drill left to undo, is damaged: %w", path, err)
	}
	for _, s := range j.steps {
		j.next = max(j.next, s.ID+1)
	}
	return j, nil
}

// add writes a step to disk; the caller does the harm only afterwards.
func (j *journal) add(s step) (id int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.ID = j.next
	j.next++
	j.steps = append(j.steps, s)
	if err := j.write(); err != nil {
		j.steps = j.steps[:len(j.steps)-1]
		return 0, err
	}
	return s.ID, nil
}

// undo carries out the steps with an ID of at least from, the last one first, and removes those
// that succeeded. If a step with MustSucceed fails, undo ends there. The error joins all failures.
func (j *journal) undo(from int) error {
	return j.undoThose(func(s step) bool { return s.ID >= from })
}

func (j *journal) undoThose(chosen func(step) bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var failed []error
	for _, s := range slices.Backward(slices.Clone(j.steps)) {
		if !chosen(s) {
			continue
		}
		if err := s.perform(); err != nil {
			failed = append(failed, fmt.Errorf("undo %s: %w", s.Why, err))
			if s.MustSucceed {
				break
			}
			continue
		}
		j.steps = slices.DeleteFunc(j.steps, func(o step) bool { return o.ID == s.ID })
		if err := j.write(); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// forget removes a step whose work was done in another way.
func (j *journal) forget(id int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps = slices.DeleteFunc(j.steps, func(s step) bool { return s.ID == id })
	return j.write()
}

// onlyKeys reports whether nothing but keys is left to undo. Left keys disturb no other drill.
func (j *journal) onlyKeys() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.ContainsFunc(j.steps, func(s step) bool { return s.Keys == nil })
}

// checkpoint returns the ID of the next step, for undo.
func (j *journal) checkpoint() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// write puts the journal on disk. An empty journal is no file.
func (j *journal) write() error {
	if len(j.steps) == 0 {
		if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(j.steps, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(j.path, b, 0o600, renameio.WithTempDir(filepath.Dir(j.path))); err != nil {
		return fmt.Errorf("write down what the drill has to undo: %w", err)
	}
	return nil
}
