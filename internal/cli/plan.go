package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"holdfast/internal/supervise"
)

func planCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Show the files and processes that 'up' would make, and start nothing",
		Long: `Show what follows from the stack, for each host: the files that would be
written and the processes that would run, in the order of their start. Secrets
are shown as placeholders; ports are those that the stack has or would be given.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, base, state, err := locate(g)
			if err != nil {
				return err
			}
			p, err := supervise.Preview(s, base, state)
			if err != nil {
				return err
			}
			if g.json {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(p)
			}
			if _, err = io.WriteString(cmd.OutOrStdout(), p.Text()); err != nil || len(s.Hosts) > 0 {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "\nThe servers on this machine:")
			for _, here := range supervise.ServersHere(cmd.Context(), s, state) {
				text := here.Server + ", " + here.Path
				if here.Wrong != "" {
					text = here.Wrong
				}
				fmt.Fprintln(cmd.OutOrStdout(), g.renderMessage("     "+text))
			}
			return nil
		},
	}
}
