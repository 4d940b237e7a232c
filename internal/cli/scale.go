package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func scaleCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "scale APP=N...",
		Short: "Run another number of an application's nodes",
		Long: `Run another number of an application's nodes, without a failed request: new ones
get requests once they are ready, and one that goes finishes what it has in hand.

The number holds until the stack file gives apps.APP.nodes another value than it
has now ('holdfast apply', 'holdfast up'); 'holdfast status' shows it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			nodes := map[string]int{}
			for _, arg := range args {
				app, number, found := strings.Cut(arg, "=")
				n, err := strconv.Atoi(number)
				if !found || app == "" || err != nil || n < 1 {
					return usagef("%s is not APP=N with a number from 1, such as web=4", quote.Shell(arg))
				}
				if _, twice := nodes[app]; twice {
					return usagef("%s stands there twice", app)
				}
				nodes[app] = n
			}
			return carryOut(cmd.Context(), g, supervise.Request{Kind: "scale", Overrides: stack.Overrides{Nodes: nodes}}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, name := range appNames(g, true, stack.KV, stack.Files, stack.Command) {
				names = append(names, name+"=")
			}
			return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
}
