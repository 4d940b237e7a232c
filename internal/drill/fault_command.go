package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/quote"
)

// ownGrace is how long a user's command may take to end when the drill is interrupted. ownWords is
// how many bytes of its output are in the report.
const ownGrace, ownWords = 20 * time.Second, 200

// commandFault returns a fault of the user's own: a shell command that breaks what it likes, mends
// it, and ends. Whatever happens to nodes meanwhile counts as its effect. The only promise is that
// no acknowledged write is lost and no answer is wrong.
func commandFault(command string) fault {
	return fault{
		name: "command", about: "a command of your own: " + command, command: command, promise: outage,
		inject: func(ctx context.Context, fc *faultContext) error {
			fc.say("running %s", quote.Text(command))
			fc.record.Anything = true
			fc.recordInjection()
			began := time.Now()
			out, err := runCommand(ctx, command)
			took := time.Since(began).Round(10 * time.Millisecond)
			says := quote.Cut(strings.TrimSpace(string(out)), ownWords)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				return fmt.Errorf("the command failed after %v: %w: %s", took, err, says)
			}
			fc.evidence("the command ran for %v and ended well", took)
			if says != "" {
				fc.evidence("it wrote: %s", says)
			}
			return nil
		},
	}
}

// runCommand runs a command in a process group of its own. When ctx ends, it sends SIGTERM, so that
// the command can undo what it did.
func runCommand(ctx context.Context, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = ownGrace
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // the command ended; a process that it left running still holds its output
	}
	return out.Bytes(), err
}
