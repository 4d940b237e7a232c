package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/host"
	"holdfast/internal/identity"
	"holdfast/internal/supervise"
)

func joinCommand(g *globals) *cobra.Command {
	var detach bool
	c := &cobra.Command{
		Use:   "join TOKEN",
		Short: "Make this machine a host of a stack, by the line that 'host add' printed",
		Long: `Make this machine a host of a stack, and run its part: the line is printed by
'holdfast host add' at a host of the stack, and works once. It needs no stack file.

In the foreground Ctrl-C ends the part of this machine, and its nodes run on. With -d
it goes on in the background; 'holdfast up -d' has it take part again after a boot,
and 'holdfast service install' has systemd do that.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := join(cmd.Context(), g, args[0])
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "This machine is host %s of the stack %s now.\n", start.self.Name, start.self.Stack); err != nil {
				return err
			}
			if detach {
				return upHostDetached(cmd.Context(), g, start, []string{"up", "--background", "--state", start.state}, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return runHost(g, start, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when it has joined; it runs on in the background")
	return c
}

// join makes this machine a host.
func join(ctx context.Context, g *globals, token string) (*hostStart, error) {
	t, err := identity.ParseToken(token)
	if err != nil {
		return nil, usageError{err}
	}
	state, err := stateDir(g, t.Stack)
	if err != nil {
		return nil, err
	}
	if self, err := host.ReadSelf(state); err == nil {
		return nil, fmt.Errorf("this machine is host %s of the stack %s already, as %s says: 'holdfast up' has it take part", self.Name, self.Stack, state)
	}
	if _, _, known := supervise.LastFile(state); known {
		return nil, fmt.Errorf("%s is the state directory of a stack %s on this machine alone: end it with 'holdfast down --purge', or choose another directory with --state", state, t.Stack)
	}
	release, err := claimHost(state)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := supervise.ForgetStopped(ctx, state); err != nil {
		return nil, fmt.Errorf("forget what nodes were stopped here before: %w", err)
	}
	self, err := host.Join(ctx, state, token)
	if ctx.Err() != nil {
		return nil, errors.New("interrupted: the same line can be used again")
	}
	if err != nil {
		return nil, err
	}
	// Later commands of this machine find it without a flag.
	if g.state != "" {
		g.state = state
	}
	return &hostStart{state: state, self: self}, nil
}
