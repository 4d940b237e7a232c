package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

func downCommand(g *globals) *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Take the stack down; its data stays",
		Long: `Take the stack down: the balancers first, then the applications, the
Sentinels, the Redis master and its replicas. Data and topology stay for the
next 'up', unless --purge removes them for good. It works also when the
supervisor has crashed and only the nodes run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			took, err := takeDown(cmd.Context(), g, purge)
			if err != nil {
				return err
			}
			what := "data stays"
			if purge {
				what = "data removed"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "down after %.1f s; %s\n", took.Seconds(), what)
			return err
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the stack's data, ports and secrets too")
	return c
}

func takeDown(ctx context.Context, g *globals, purge bool) (time.Duration, error) {
	began := time.Now()
	s, _, err := loadStack(g)
	if err != nil {
		return 0, err
	}
	state, err := stateDir(g, s.Name)
	if err != nil {
		return 0, err
	}
	client := control.NewClient(state)
	switch err := client.Down(ctx, purge); {
	case err == nil:
		err := awaitDown(ctx, client, state)
		return time.Since(began), err
	case !errors.Is(err, control.ErrNoSupervisor):
		return 0, err
	}
	// No supervisor: do its work.
	sup, closeLog, err := openSupervisor(g)
	if err != nil {
		return 0, err
	}
	defer closeLog()
	defer sup.Close()
	sup.Attend()
	if err := sup.Stop(ctx); err != nil {
		return 0, err
	}
	if purge {
		err = sup.Purge()
	}
	return time.Since(began), err
}

// awaitDown waits until the supervisor is gone, and its lock with it: an 'up'
// that follows must find the place free.
func awaitDown(ctx context.Context, client *control.Client, state string) error {
	for {
		_, err := client.Status(ctx)
		switch {
		case errors.Is(err, control.ErrNoSupervisor) && !supervise.Locked(state):
			return nil
		case ctx.Err() != nil:
			return errors.New("interrupted: the stack goes on being taken down")
		}
		time.Sleep(drawEvery)
	}
}
