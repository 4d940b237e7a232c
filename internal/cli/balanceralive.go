package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
)

// aliveLimit is how long the balancers may take to answer. It is shorter than keepalived's own
// time-out.
const aliveLimit = 3 * time.Second

// balancerAliveCommand is the command by which keepalived asks whether a balancer of its host
// serves. It works without a supervisor.
func balancerAliveCommand() *cobra.Command {
	return &cobra.Command{
		Use:    plan.AliveCommand + " SOCKET...",
		Short:  "Ask whether one of the balancers with these sockets serves (run by keepalived)",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, sockets []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), aliveLimit)
			defer cancel()
			return balancerAlive(ctx, sockets)
		},
	}
}

// balancerAlive returns nil as soon as one of the balancers reports that it serves.
func balancerAlive(ctx context.Context, sockets []string) error {
	answers := make(chan error, len(sockets))
	for _, socket := range sockets {
		go func() {
			info, err := haproxy.NewClient(socket).Info(ctx)
			if err == nil && info.Stopping {
				err = fmt.Errorf("%s: it is stopping", socket)
			}
			answers <- err
		}()
	}
	var all []error
	for range sockets {
		err := <-answers
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}
