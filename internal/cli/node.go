package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// nodeCommands are the commands that act on one node: one shape, six verbs.
func nodeCommands(g *globals) []*cobra.Command {
	verbs := []struct {
		action      supervise.Action
		done, short string
	}{
		{supervise.ActStart, "up", "Start a node that was stopped or has failed"},
		{supervise.ActStop, "down", "Stop a node; it stays down until it is started"},
		{supervise.ActRestart, "up again", "Stop a node and start it again"},
		{supervise.ActKill, "killed; the supervisor starts it again", "Kill a node (SIGKILL), as a crash would"},
		{supervise.ActPause, "paused", "Pause a node (SIGSTOP), as a hang would"},
		{supervise.ActResume, "resumed", "Let a paused node go on (SIGCONT)"},
	}
	var commands []*cobra.Command
	for _, v := range verbs {
		commands = append(commands, &cobra.Command{
			Use:   string(v.action) + " NODE",
			Short: v.short,
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := act(cmd.Context(), g, args[0], v.action); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", args[0], v.done)
				return err
			},
			ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return nodeNames(cmd.Context(), g), cobra.ShellCompDirectiveNoFileComp
			},
		})
	}
	return commands
}

func act(ctx context.Context, g *globals, node string, action supervise.Action) error {
	s, _, state, err := locate(g)
	if err != nil {
		return err
	}
	err = control.NewClient(state).Do(ctx, node, action)
	var unknown *control.UnknownNodeError
	switch {
	case errors.As(err, &unknown):
		return usageError{err}
	case errors.Is(err, control.ErrNoSupervisor):
		return fmt.Errorf("no supervisor of the stack %s runs; 'holdfast up' starts one, and adopts what runs", s.Name)
	}
	return err
}

// nodeNames are for the shell's completion: no answer is no harm.
func nodeNames(ctx context.Context, g *globals) []string {
	read, err := statusReader(g)
	if err != nil {
		return nil
	}
	st, err := read(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range st.Nodes {
		names = append(names, n.Name)
	}
	return names
}
