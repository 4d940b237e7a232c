package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/internal/logs"
	"holdfast/internal/supervise"
)

// logWriterCommand is the process that stores what the nodes say. A supervisor
// starts it.
func logWriterCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:    supervise.LogWriterCommand,
		Short:  "Store what the nodes of a stack say (started by 'up')",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.state == "" {
				return usagef("the log writer needs --state")
			}
			state, err := filepath.Abs(g.state)
			if err != nil {
				return err
			}
			return logs.Write(cmd.Context(), state)
		},
	}
}
