package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/host"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// How the leading host takes the stack down, and what each host does afterwards.

// downRequest asks the leading process to take the stack down. answer gets the result of a purge.
type downRequest struct {
	purge  bool
	answer chan error // buffered
}

// askLeader asks for the stack to be taken down. It waits for a purge, and refuses one while a host
// is away: that host would keep its data and would not learn that the stack is gone.
func askLeader(ctx context.Context, sup *supervise.Supervisor, asked chan<- downRequest, purge bool) error {
	down := downRequest{purge, make(chan error, 1)}
	if away := sup.Away(ctx); purge && len(away) > 0 {
		return fmt.Errorf("%w: nothing was stopped, and nothing removed", awayError(away))
	}
	select {
	case asked <- down:
	default:
		if purge {
			return errors.New("the stack is being taken down already: purge it when it is up again")
		}
	}
	if !purge {
		return nil
	}
	select {
	case err := <-down.answer:
		return err
	case <-ctx.Done():
		return errors.New("another host leads in the middle of it: 'holdfast down --purge' again")
	}
}

// awayError returns an error with advice about hosts that are away before a purge.
func awayError(away []string) error {
	do := "Bring it back ('holdfast up -d' there), or take it out of the stack first ('holdfast host remove " + away[0] + "')"
	return fmt.Errorf("%s away, and the data there would stay. %s", areOrIs(away), do)
}

// answerTime is how long the leading host goes on after it has answered a purge. The answer passes
// through the process of the host that the user asked, which ends as well.
const answerTime = 500 * time.Millisecond

// takeDown stops all nodes, and has the processes of the hosts end.
func (p *hostProcess) takeDown(ctx context.Context, sup *supervise.Supervisor, l host.Leadership, down downRequest) error {
	// The nodes stop first: if a host ended while nodes run, the next leader would start again what
	// was stopped.
	// A host that is lost does not prevent it: the user is told.
	err := sup.Stop(ctx, nil)
	unreached := new(supervise.UnreachedError)
	if err != nil && !errors.As(err, &unreached) {
		down.answer <- err
		return fmt.Errorf("take the stack down: %w", err)
	}

	purged := false
	if down.purge {
		if err == nil {
			err = sup.PurgeHosts(ctx)
		} else {
			err = fmt.Errorf("the stack is down but for %s, which was lost meanwhile: nothing was removed. When it is back, 'holdfast up -d' at each host, and then 'holdfast down --purge' again", hostNames(unreached.Hosts))
		}
		if purged = err == nil; !purged {
			p.log.Error("the stack was not purged", "error", err)
		}
		down.answer <- err
		clock.Sleep(ctx, answerTime)
	}

	if err := l.End(ctx, purged); err != nil {
		return fmt.Errorf("have the other hosts end: %w", err)
	}

	<-ctx.Done()
	return nil
}

// purgeHost removes everything that makes a state directory that of a host. The stack is gone.
func purgeHost(start *hostStart) error {
	if runs, err := supervise.Running(start.state); err != nil || runs {
		return errors.Join(err, fmt.Errorf("the stack is no more, and nodes run on this host: end them, and remove %s", quote.Shell(start.state)))
	}
	awaitLogWriter(start.state) // it stores its last lines in what is about to be removed
	// The stack's files go first, because the next stack here would take up what is left of them.
	// If this is interrupted, the directory is still that of a host, which hears of the purge again
	// and goes on.
	if err := supervise.RemoveState(start.state); err != nil {
		return err
	}
	if err := host.Leave(start.state); err != nil {
		return err
	}
	// This comes last: a stack that begins here as soon as the claim is gone would otherwise lose
	// files.
	if err := host.Unclaim(start.state); err != nil {
		return err
	}
	_ = os.Remove(start.state) // succeeds only if it is empty
	return nil
}
