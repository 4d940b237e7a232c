package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/drill"
)

// drillUndoCommand undoes what a killed drill has left. A drill's second process runs this command,
// too.
func drillUndoCommand(g *globals) *cobra.Command {
	var orphaned bool
	c := &cobra.Command{
		Use:   "undo",
		Short: "Undo what a killed drill left broken",
		Long: `Undo what a killed drill left broken: it goes on where the drill ended. A second
process of each drill does this by itself as soon as the drill has ended; here it is
for the case that both were killed. The next drill begins with it, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			state := g.state
			if orphaned {
				ctx = context.WithoutCancel(ctx) // what ended the drill must not end this process
			} else {
				var err error
				if _, _, state, err = locateRunning(g); err != nil {
					return err
				}
			}
			steps, err := drill.Undo(ctx, state, cmd.InOrStdin(), orphaned)
			if err != nil {
				return err
			}
			if !orphaned {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "undone: %d\n", steps)
			}
			return err
		},
	}

	c.Flags().BoolVar(&orphaned, drill.Orphaned, false, "wait until the drill at the other end of standard input has ended")
	c.Flags().MarkHidden(drill.Orphaned)
	return c
}
