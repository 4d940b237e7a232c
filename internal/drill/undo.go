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

// step undoes one thing. It is data, so that it outlives the drill: whoever
// finds it can carry it out. A step has one of Signal, Command, Remove,
// Unmount, Follow, Uncut, Changed and Keys.
type step struct {
	ID  int    `json:"id"`
	Why string `json:"why"`

	// Signal is sent to Process, if it still runs, and unless Alone to its
	// group.
	Signal  syscall.Signal `json:"signal,omitempty"`
	Process process.ID     `json:"process,omitzero"`
	Alone   bool           `json:"alone,omitempty"`
	// Host is the host of the process, one of several, and By the state directory of this
	// one, whose process passes the signal on; empty: it is a process of this machine.
	Host string `json:"host,omitempty"`
	By   string `json:"by,omitempty"`
	// Command is a program and its arguments; Input is its standard input.
	Command []string `json:"command,omitempty"`
	Input   string   `json:"input,omitempty"`
	// Limit is how long the command may take; 0: commandLimit.
	Limit time.Duration `json:"limit,omitempty"`
	// Remove is a file, or a directory with all in it. Unmount is a directory
	// that something was mounted on.
	Remove  string `json:"remove,omitempty"`
	Unmount string `json:"unmount,omitempty"`
	// Follow has a replica follow its master again.
	Follow *follow `json:"follow,omitempty"`
	// Uncut ends the cut of a user's host.
	Uncut *uncut `json:"uncut,omitempty"`
	// Changed takes a change of the stack back.
	Changed *changed `json:"changed,omitempty"`
	// Keys removes the keys of a drill.
	Keys *keys `json:"keys,omitempty"`
	// Supervised is the state directory of a stack: the step is done when a
	// supervisor looks after it. Running is one likewise: the step is done when
	// none of its nodes runs, since somebody has taken it down meanwhile.
	Supervised string `json:"supervised,omitempty"`
	Running    string `json:"running,omitempty"`
	// Claimed is the state directory of a host, one of several: the step is done when its
	// process of Holdfast runs.
	Claimed string `json:"claimed,omitempty"`
	// Awaited: the step is done when the process that got the signal has ended.
	Awaited bool `json:"awaited,omitempty"`
	// Bearing: the steps before it take away what this one needs, so that they
	// wait until it is done.
	Bearing bool `json:"bearing,omitempty"`
	// Unless names a path: when it is not there, there is nothing to undo.
	Unless string `json:"unless,omitempty"`
}

// perform carries the step out. What is undone already is no error.
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
		return s.signalAfar()
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

// signalAfar sends the signal to a process of another host. One whose host cannot be reached
// goes on by itself (control.StoppedLimit).
func (s step) signalAfar() (err error) {
	by := handsOf(s.By)
	_ = await(context.Background(), "", control.StoppedLimit, func() bool {
		err = by.signal(s.Host, s.Process, s.Signal, true)
		return err == nil
	})
	return err
}

// staysClaimed reports whether the process of a host runs. One that was killed a moment ago
// holds its lock until the last of its threads has ended.
func staysClaimed(state string) bool {
	return await(context.Background(), "", time.Second, func() bool { return !part.Claimed(state) }) != nil
}

// commandLimit is how long a command that undoes may take, and commandGrace how
// long it may then take to end. Taking a stack down is the longest.
const commandLimit, commandGrace = 90 * time.Second, 5 * time.Second

// command runs the step's command in a process group of its own: the Ctrl-C
// that ends the drill, and the second one of who has no patience, are not for
// what undoes it.
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

// journal is what a drill has to undo, written down before it does harm. It is
// safe for concurrent use.
type journal struct {
	path string

	mu    sync.Mutex
	steps []step
	next  int
}

// openJournal finds what an earlier drill left to undo; it is to be undone
// before anything else.
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

// add writes a step down, on disk, before the harm that it undoes.
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

// undo carries out the steps that were added from an id on, the last one
// first, and forgets those that succeeded. A bearing step that fails ends it.
// The error tells of all that did not succeed.
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
			if s.Bearing {
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

// forget takes a step out that was carried out otherwise.
func (j *journal) forget(id int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps = slices.DeleteFunc(j.steps, func(s step) bool { return s.ID == id })
	return j.write()
}

// onlyKeys reports whether nothing but keys is left to undo, which are in
// nobody's way.
func (j *journal) onlyKeys() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.ContainsFunc(j.steps, func(s step) bool { return s.Keys == nil })
}

// mark is the id that the next step gets: see undo.
func (j *journal) mark() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// write puts the journal on disk; an empty one is no file.
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
