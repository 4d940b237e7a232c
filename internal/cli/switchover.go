package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
)

func switchoverCommand(g *globals) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "switchover",
		Short: "Make another redis node the master, without a failed request",
		Long: `Make another redis node the master while the old one works, for example before
maintenance. Writes wait for a fraction of a second; none fails, none is lost.
The old master goes on as a replica.

It is refused, and nothing is changed, when the replica lacks data, when the
Sentinels do not agree, or when a failover is under way. 'holdfast stop' and
'holdfast restart' of the master do this by themselves.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("to") && to == "" {
				return usagef("--to is empty: name a redis node, or leave it out")
			}
			s, _, state, err := locateRunning(g)
			if err != nil {
				return err
			}
			done, err := g.client(state).Switchover(cmd.Context(), to)
			if err != nil && cmd.Context().Err() != nil {
				return fmt.Errorf("interrupted: a switchover that has begun goes on; see %s", g.command("status"))
			}
			if err != nil {
				return nodeError(s.Name, err)
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is the master, %s is a replica; writes waited for %d ms\n", done.To, done.From, done.Waited)
			return err
		},
	}

	cmd.Flags().StringVar(&to, "to", "", "redis `NODE` to become the master (default: the replica with the most data; in pods one with a low number)")
	_ = cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return redisReplicas(cmd.Context(), g), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// nodeError returns the error of a request about a node, with advice.
func nodeError(stackName string, err error) error {
	var unknown *control.UnknownNodeError
	switch {
	case errors.As(err, &unknown):
		return usageError{err}
	case errors.Is(err, control.ErrNoSupervisor):
		return fmt.Errorf("no supervisor of the stack %s runs; 'holdfast up' starts one, and adopts what runs", stackName)
	}
	return err
}
