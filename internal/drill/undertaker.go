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

// The undertaker is a second process of a drill. It waits until the drill has
// ended, which the end of a pipe tells it, and then undoes what the journal
// still has: nothing, unless the drill was killed.

// undertaker is the drill's side of it.
type undertaker struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// Orphaned is the hidden flag by which a drill starts its undertaker.
const Orphaned = "orphaned"

// startUndertaker starts one in a session of its own: what ends the drill, a
// Ctrl-C or a closed terminal, does not end it.
func startUndertaker(self, state string) (*undertaker, error) {
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
	return &undertaker{cmd, pipe}, nil
}

// dismiss ends the undertaker of a drill that has undone everything itself.
func (u *undertaker) dismiss() {
	// A byte, and not just the end of the pipe: this end is deliberate.
	_, _ = u.pipe.Write([]byte{'.'})
	u.pipe.Close()
	_ = u.cmd.Wait()
}

// Undo undoes what a drill of the stack with that state directory left when it
// was killed, and answers how many steps that were. With orphaned it waits for
// the drill's end first: in is a pipe whose other end the drill holds.
func Undo(ctx context.Context, state string, in io.Reader, orphaned bool) (steps int, err error) {
	if orphaned {
		// What the drill's terminal sends goes by.
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
	// The kernel gives a killed drill's lock back when the last of it is gone.
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
		// A command of the drill's may be under way still, such as a mount: it
		// ends after what would undo it.
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

// commandsEnd is how long the short commands of a killed drill may go on.
const commandsEnd = 500 * time.Millisecond

func exists(state, name string) bool {
	_, err := os.Stat(filepath.Join(state, name))
	return err == nil
}

// complain writes down what went wrong where nobody watches.
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
