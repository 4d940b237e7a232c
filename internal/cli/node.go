package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/plan"
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
	return nodeError(s.Name, control.NewClient(state).Do(ctx, node, action))
}

// nodeNames are for the shell's completion: no answer is no harm.
func nodeNames(ctx context.Context, g *globals) []string {
	return namesOf(ctx, g, func(supervise.NodeStatus) bool { return true })
}

// redisReplicas are for the shell's completion, too.
func redisReplicas(ctx context.Context, g *globals) []string {
	return namesOf(ctx, g, func(n supervise.NodeStatus) bool { return n.Kind == plan.Redis && n.Role == "replica" })
}

func namesOf(ctx context.Context, g *globals, fits func(supervise.NodeStatus) bool) (names []string) {
	read, err := statusReader(g)
	if err != nil {
		return nil
	}
	st, err := read(ctx)
	if err != nil {
		return nil
	}
	for _, n := range st.Nodes {
		if fits(n) {
			names = append(names, n.Name)
		}
	}
	return names
}
