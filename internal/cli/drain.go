package cli

import (
	"github.com/spf13/cobra"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func drainCommands(g *globals) []*cobra.Command {
	var anyway bool
	drain := &cobra.Command{
		Use:   "drain NODE...",
		Short: "Take nodes of an application out of rotation; they go on running",
		Long: `Take nodes of an application out of rotation: the balancers send them nothing new,
and what they have in hand is finished. They go on running, also over restarts of
theirs, of the balancers and of the supervisor, until 'holdfast undrain'.

It is refused when no other node of the application serves, unless --anyway is
given: the application's clients would get 503.`,
		Args: cobra.MinimumNArgs(1),
	}

	drain.Flags().BoolVar(&anyway, "anyway", false, "also when no other node of the application serves")
	undrain := &cobra.Command{
		Use:   "undrain NODE...",
		Short: "Put drained nodes back into rotation",
		Args:  cobra.MinimumNArgs(1),
	}

	for _, c := range []*cobra.Command{drain, undrain} {
		out := c == drain
		c.RunE = func(cmd *cobra.Command, args []string) error {
			nodes := map[string]bool{}
			for _, name := range args {
				nodes[name] = out
			}
			return carryOut(cmd.Context(), g, supervise.Request{Kind: cmd.Name(), Overrides: stack.Overrides{Drained: nodes}, Anyway: anyway}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}
		c.ValidArgsFunction = func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return namesOf(cmd.Context(), g, func(n supervise.NodeStatus) bool { return n.Kind == plan.Web && n.Drained != out }), cobra.ShellCompDirectiveNoFileComp
		}
	}
	return []*cobra.Command{drain, undrain}
}
