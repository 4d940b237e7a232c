package cli

import (
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"holdfast/internal/supervise"
)

// fenceGuardCommand is a process that a supervisor starts for a switchover. It lifts the fence on
// the master if the supervisor dies.
func fenceGuardCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:    supervise.FenceGuardCommand + " PID",
		Short:  "Let a Redis master take writes again when the supervisor PID dies in a switchover (started by 'switchover')",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			supervisor, err := strconv.Atoi(args[0])
			if err != nil || g.state == "" {
				return usagef("the guard of a switchover needs --state and the pid of its supervisor")
			}
			state, err := filepath.Abs(g.state)
			if err != nil {
				return err
			}
			return supervise.GuardFence(cmd.Context(), state, supervisor, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
}
