package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

func upgradeCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade",
		Short: "Have this version of Holdfast take over, without an outage",
		Long: `Have this version of Holdfast take over: call it with the new program. It takes the
place of the supervisor, as the same process; the nodes go on meanwhile. Then the
nodes whose program file was replaced since they were started, Holdfast's own as
well as HAProxy and Redis, are started anew, one at a time and with the brake of
'holdfast apply'.

It is refused when the stack file says something else than what runs: 'holdfast
apply' comes first, or later.

Of several hosts it is for the one where it is called: the program takes the place of
that host's process, and another host leads meanwhile where that one did. Call it on
one host after the other. Hosts of two versions work together until then.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := takeOver(cmd.Context(), g, cmd.OutOrStdout()); err != nil {
				return err
			}
			return carryOut(cmd.Context(), g, supervise.Request{Kind: "upgrade"}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// takeOver makes this program the supervisor.
func takeOver(ctx context.Context, g *globals, stdout io.Writer) error {
	s, base, state, err := locateRunnable(g)
	if err != nil {
		return err
	}

	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}

	digest, err := supervise.ProgramDigest(self)
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	if isJoined(state) {
		return takeOverHost(ctx, state, self, digest, stdout)
	}

	client := control.NewClient(state)
	before, err := client.Status(ctx)
	switch {
	case err != nil:
		return nodeError(s.Name, err)
	case before.Program == digest:
		_, err = fmt.Fprintln(stdout, "this version is the supervisor already")
		return err
	}

	// The files are compared here, because an older supervisor may not know all keys of this one.
	req := supervise.Request{Kind: "up"}
	switch same, known := supervise.Runs(state, s, base); {
	case !known:
		req.File, req.BaseDir = string(s.Show()), base
	case !same:
		return errOtherFile
	}

	p, err := client.Preview(ctx, req)
	switch {
	case errors.As(err, new(*control.UnknownNodeError)): // the supervisor is too old for previews
	case err != nil:
		return changeError(s.Name, err)
	case len(p.Refused) > 0:
		return fmt.Errorf("refused, and nothing was changed:\n%s", strings.Join(p.Refused, "\n"))
	case !p.Empty():
		return errOtherFile
	}

	err = client.Upgrade(ctx, self)
	switch {
	case errors.Is(err, control.ErrNoHandOver):
		err = replaceOld(g, before.Supervisor, state)
	case errors.Is(err, control.ErrNoSupervisor):
		err = nil // it may have left before its answer was sent
	}

	if err != nil {
		return nodeError(s.Name, err)
	}
	if err := awaitProgram(ctx, client, state, digest); err != nil {
		return err
	}

	_, err = fmt.Fprintln(stdout, "this version is the supervisor now")
	return err
}

var errOtherFile = errors.New("the stack file says something else than what runs: 'holdfast apply' first, or put the file back")

// olderSupervisor returns the error of a request. If the supervisor is another version, which may
// not know the request, the error says so.
func olderSupervisor(ctx context.Context, client *control.Client, err error) error {
	self, selfErr := os.Executable()
	if selfErr != nil {
		return err
	}
	digest, selfErr := supervise.ProgramDigest(self)
	st, statusErr := client.Status(ctx)
	if selfErr != nil || statusErr != nil || st.Program == digest {
		return err
	}
	return fmt.Errorf("%w. The supervisor is another version of Holdfast: 'holdfast upgrade' has this one take over, and then try again", err)
}

// replaceOld ends a supervisor that cannot hand over as a crash would, and starts this program in
// its place.
func replaceOld(g *globals, pid int, state string) error {
	if err := killSupervisor(context.Background(), pid, state); err != nil {
		return err
	}
	args := []string{"up", "--background", "--state", state}
	if g.file != "" {
		args = append(args, "--file", g.file)
	}
	_, err := startBackground(args)
	return err
}

// killSupervisor ends a supervisor as a crash would, and waits until it is gone.
func killSupervisor(ctx context.Context, pid int, state string) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("end the supervisor %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !clock.Poll(ctx, drawEvery, func() bool { return !supervise.Locked(state) }) {
		return fmt.Errorf("the supervisor %d does not end", pid)
	}
	return nil
}

// takeOverLimit is how long a new supervisor may take until it looks after the nodes.
const takeOverLimit = 2 * time.Minute

// awaitProgram waits until the program with that digest is the supervisor and has adopted the
// nodes.
func awaitProgram(ctx context.Context, client *control.Client, state, digest string) error {
	const absent = 15 * time.Second // if nothing has run for so long, it has not started
	began, seen := time.Now(), time.Now()
	for {
		st, err := client.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted: the new version goes on taking over; see 'holdfast status'")
		case err == nil && st.Program == digest && st.Phase == supervise.PhaseRunning:
			return nil
		case err == nil || supervise.Locked(state):
			seen = time.Now()
		case time.Since(seen) > absent:
			return errors.New("the new version has not come up; the nodes run on. 'holdfast logs supervisor' may say why, and 'holdfast up' starts a supervisor")
		}
		if time.Since(began) > takeOverLimit {
			return fmt.Errorf("the new version does not look after the nodes after %v; 'holdfast status' shows how it goes on", takeOverLimit)
		}
		clock.Sleep(ctx, drawEvery)
	}
}

// handOverError is the error of a process that hands over to another program.
type handOverError struct {
	program string
	args    []string
	// first runs instead, if it is set: the supervisor of one machine becomes the process of a
	// host.
	first func() error
}

func (h *handOverError) Error() string { return "hands over to " + h.program }

// run replaces this process with the other program.
func (h *handOverError) run() error {
	if h.first != nil {
		return h.first()
	}
	err := syscall.Exec(h.program, append([]string{h.program}, h.args...), os.Environ())
	return fmt.Errorf("hand over to %s: %w; the nodes run on, and 'holdfast up' adopts them", quote.Shell(h.program), err)
}

// handingOver hands over to another program if err is a *handOverError, and returns any other
// error.
func handingOver(err error) error {
	var over *handOverError
	if errors.As(err, &over) {
		return over.run()
	}
	return err
}
