package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/private"
	"holdfast/internal/quote"
)

// The undo process is a second process of a drill. It waits until the drill has ended, which it
// learns from the end of a pipe, and then undoes what the journal still holds. That is nothing,
// unless the drill was killed.

// undoProcess is the drill's handle of that process.
type undoProcess struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// Orphaned is the name of the hidden flag with which a drill starts its undo process.
const Orphaned = "orphaned"

// startUndoProcess starts the process in a session of its own: a Ctrl-C or a closed terminal ends
// the drill, and not the undo process.
func startUndoProcess(self, state string) (*undoProcess, error) {
	cmd := exec.Command(self, "drill", "undo", "--"+Orphaned, "--state", state)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the process that undoes what a killed drill leaves: %w", err)
	}
	return &undoProcess{cmd, pipe}, nil
}

// dismiss ends the undo process of a drill that has undone everything itself.
func (u *undoProcess) dismiss() {
	// A byte, and not only the end of the pipe, shows that this end is deliberate.
	_, _ = u.pipe.Write([]byte{'.'})
	u.pipe.Close()
	_ = u.cmd.Wait()
}

// Undo undoes what a killed drill of the stack with this state directory left, and returns how many
// steps it carried out. With orphaned, it first waits for the drill's end: in is a pipe whose other
// end the drill holds.
func Undo(ctx context.Context, state string, in io.Reader, orphaned bool) (steps int, err error) {
	if orphaned {
		// Ctrl-C has no effect here; see startUndoProcess.
		if n, _ := io.Copy(io.Discard, in); n > 0 {
			return 0, nil
		}
	}

	if !exists(state, journalName) && !exists(state, lockName) {
		return 0, nil
	}
	if err := private.CheckDir(state); err != nil {
		return 0, err
	}

	// The kernel releases a killed drill's lock when its last thread has ended.
	var held *os.File
	if await(ctx, "", 5*time.Second, func() bool {
		held, err = lock(state)
		return err == nil
	}) != nil {
		return 0, err
	}
	defer unlock(held)

	j, err := openJournal(filepath.Join(state, journalName))
	if err != nil {
		return 0, err
	}
	before := len(j.steps)
	if orphaned {
		// A command of the drill, such as a mount, may still run. It would end after the step that
		// undoes it.
		time.Sleep(commandsEnd)
	}

	if err = j.undo(0); err != nil && orphaned {
		time.Sleep(commandsEnd)
		err = j.undo(0)
	}
	if err != nil && orphaned {
		err = errors.Join(err, complain(state, err))
	}
	return before - len(j.steps), err
}

// commandsEnd is how long the short commands of a killed drill may still run.
const commandsEnd = 500 * time.Millisecond

func exists(state, name string) bool {
	_, err := os.Stat(filepath.Join(state, name))
	return err == nil
}

// complain writes the failure into logs/drill.log of the state directory, since an undo process has
// no terminal.
func complain(state string, what error) error {
	dir := filepath.Join(state, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := private.Open(filepath.Join(dir, "drill.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s a drill was killed, and not everything could be undone; holdfast drill undo --state %s tries again: %v\n", time.Now().Format(time.RFC3339), quote.Shell(state), what)
	return errors.Join(err, f.Close())
}
