package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/quote"
)

// purgeHosts takes a stack of several hosts down, removes the data of all hosts, and makes each
// host forget that it belonged to the stack.
func purgeHosts(ctx context.Context, g *globals, client *control.Client, state string) (said string, err error) {
	began := time.Now()
	v, err := client.Hosts(ctx)
	if errors.Is(err, control.ErrNoSupervisor) {
		return "", fmt.Errorf("this host is not up, so that the other hosts cannot be asked: 'holdfast up -d' at each host, and then 'holdfast down --purge'; or remove the state directory on each of them (here %s)", quote.Shell(state))
	}
	if err != nil {
		return "", err
	}

	var names, away []string
	for _, s := range v.Hosts {
		if names = append(names, s.Name); !s.Reachable {
			away = append(away, s.Name)
		}
	}

	if len(away) > 0 {
		return "", fmt.Errorf("%w. Nothing was stopped, and nothing removed", awayError(away))
	}
	if at, err := client.DrilledAt(ctx); err != nil || at != "" {
		return "", cmp.Or(err, fmt.Errorf("a drill of the stack is under way at host %s: wait for its end, or end it there. Nothing was stopped, and nothing removed", at))
	}
	if err := endDrill(ctx, g); err != nil {
		return "", err
	}

	err = g.client(state).Down(ctx, true)
	busy := new(control.BusyError)
	switch {
	case ctx.Err() != nil:
		return "", errors.New("interrupted: the stack goes on being taken down, and its data is removed")
	case errors.As(err, new(*control.WaitsError)):
		return "", fmt.Errorf("the stack has not started, so that it has no data: end the process of each host that has joined, and remove its state directory (here %s). (%w)", quote.Shell(state), err)
	case errors.Is(err, control.ErrNoSupervisor), errors.As(err, &busy) && !busy.Later: // the answer was lost; the files show what happened
	case err != nil:
		return "", err
	}

	if _, err := awaitAllDown(ctx, client, state); err != nil {
		return "", err
	}
	if isJoined(state) {
		return "", fmt.Errorf("the stack is down, and this host is one of it still, so that not all of its data is removed: 'holdfast up -d' at each host, and then 'holdfast down --purge' again; 'holdfast logs supervisor' may say why")
	}
	if left := awaitGone(ctx, v); len(left) > 0 {
		return "", fmt.Errorf("the data of all hosts is removed, and %s not ended: end the process there, and remove its state directory", haveOrHas(left))
	}
	if err := purgeDrill(ctx, g); err != nil {
		return "", err
	}
	return fmt.Sprintf("down on all hosts after %.1f s; the data of hosts %s is removed, and none of them is a host of the stack any more", time.Since(began).Seconds(), listed(names)), nil
}

// haveOrHas returns "host two has" or "hosts two and three have".
func haveOrHas(names []string) string {
	if len(names) == 1 {
		return hostNames(names) + " has"
	}
	return hostNames(names) + " have"
}

// awaitGone waits until the processes of the other hosts no longer answer. It returns the hosts
// that still do.
func awaitGone(ctx context.Context, v host.View) (left []string) {
	const patience = 15 * time.Second
	for end := time.Now().Add(patience); ; {
		left = nil
		for _, s := range v.Hosts {
			if peer, is := host.Meet(ctx, s.Address); is && s.Name != v.Here && peer.Stack == v.Stack {
				left = append(left, s.Name)
			}
		}
		if len(left) == 0 || time.Now().After(end) || ctx.Err() != nil {
			return left
		}
		clock.Sleep(ctx, askHostEvery)
	}
}
