package cli

import (
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"holdfast/internal/logs"
	"holdfast/internal/supervise"
)

// logWriterCommand is the process that stores the output of the nodes. A supervisor starts it.
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
			// It has little work and wakes often, so threads that wake each other cost more than
			// they gain.
			runtime.GOMAXPROCS(1)
			return logs.Write(cmd.Context(), state)
		},
	}
}
