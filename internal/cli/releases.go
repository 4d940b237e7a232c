package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/release"
	"holdfast/internal/supervise"
)

// releasesCommand manages the copies of a program's files on this host. The leading host calls it,
// perhaps with another version of the program, so its arguments and its output must not change.
func releasesCommand() *cobra.Command {
	c := &cobra.Command{
		Use: supervise.ReleasesCommand, Short: "Keep the copies of a program's files on this host", Hidden: true,
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use: supervise.ReleasesAdd + " STORE SOURCE", Short: "Copy a directory, and print the digest of its release",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest, err := release.At(args[0]).Add(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), digest)
			return err
		},
	}, &cobra.Command{
		Use: supervise.ReleasesPrune + " STORE DIGEST...", Short: "Remove all releases but these",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return release.At(args[0]).Prune(args[1:]) },
	})
	return c
}
