package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/supervise"
)

// downHosts takes a stack of several hosts down, from any of them, and returns what to tell the
// user.
func downHosts(ctx context.Context, g *globals, state string, purge bool) (said string, err error) {
	began := time.Now()
	client := control.NewClient(state)
	if purge {
		return purgeHosts(ctx, g, client, state)
	}
	before, err := askAllDown(ctx, g.client(state))
	switch {
	case errors.As(err, new(*control.WaitsError)):
		return "", fmt.Errorf("the stack has not started, so that there is nothing to take down: %w", err)
	case errors.Is(err, control.ErrNoSupervisor) && !host.Claimed(state):
		return downHere(state)
	case err != nil:
		return "", err
	}
	unreached, err := awaitAllDown(ctx, client, state)
	if err != nil {
		return "", err
	}
	said = fmt.Sprintf("down on all hosts after %.1f s; data stays", time.Since(began).Seconds())
	if len(unreached) > 0 {
		said = fmt.Sprintf("down after %.1f s, but for %s: not reached, so that the nodes there may run on. Data stays. When it is back, 'holdfast up -d' at a majority of the hosts, and then 'holdfast down', end them",
			time.Since(began).Seconds(), hostNames(unreached))
	}
	if before.Change != nil {
		said += fmt.Sprintf("\nA change was under way (%s): %s", before.Change.Kind, supervise.InterruptedText(before.Change.Kind))
	}
	return g.renderMessage(said), nil
}

// downHost takes one of several hosts down for maintenance.
func downHost(ctx context.Context, g *globals, w io.Writer, name string, anyway bool) error {
	_, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	if !isJoined(state) {
		return usagef("the stack has one host alone: 'holdfast down' takes it down")
	}

	began, client := time.Now(), g.client(state)
	v, err := client.Hosts(ctx)
	if errors.Is(err, control.ErrNoSupervisor) {
		return errors.New("this host is not up: run it at another one")
	}
	if err != nil {
		return err
	}
	if err := mayGoDown(v, name); err != nil {
		return err
	}

	fmt.Fprintf(g.stderr, "Host %s goes down for maintenance …\n", name)
	// If this host leads, it hands the lead over first, and the new leader is asked.
	err = client.Rest(ctx, name, anyway)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: host %s goes on going down", name)
	case errors.Is(err, control.ErrNoSupervisor) && name == v.Here: // this host's process has ended before it could answer
	case err != nil:
		return err
	}

	_, err = fmt.Fprintf(w, "host %s is down for maintenance after %.1f s; %s\n", name, time.Since(began).Seconds(), g.renderMessage("'holdfast up' there brings it back"))
	return err
}

// mayGoDown returns an error for a host that does not exist, or without which no host could lead.
func mayGoDown(v host.View, name string) error {
	var names []string
	var is *host.HostView
	votes, left := 0, 0
	for i, s := range v.Hosts {
		names = append(names, s.Name)
		if s.Name == name {
			is = &v.Hosts[i]
		}
		if s.Votes {
			votes++
		}
		if s.Votes && s.Reachable && s.Name != name {
			left++
		}
	}
	switch {
	case is == nil:
		return usagef("no host of the stack is called %q; there are %s", name, listed(names))
	case !is.Reachable:
		return fmt.Errorf("host %s does not answer: there is nothing to take down that could be reached", name)
	case left <= votes/2:
		return fmt.Errorf("without host %s no majority of the hosts is left, so nobody could look after the stack: of the other hosts %d answer, and %d are needed", name, left, votes/2+1)
	}
	return nil
}

// askAllDown asks the leader to take the stack down.
func askAllDown(ctx context.Context, client *control.Client) (before supervise.Status, err error) {
	if before, err = client.Status(ctx); err != nil {
		return before, err
	}
	return before, client.Down(ctx, false)
}

// downHere is 'down' on a host that is not up.
func downHere(state string) (said string, err error) {
	running, err := supervise.Running(state)
	if err != nil {
		return "", err
	}
	if running {
		return "", errors.New("this host is not up, although its nodes run: 'holdfast up -d' has it take part again, and 'holdfast down' then takes the stack down; or run 'holdfast down' at another host")
	}
	return "this host is not up, and none of its nodes runs; whether the stack is up elsewhere, another host says: 'holdfast status' there", nil
}

// awaitAllDown waits until this host's process has ended, which it does when all nodes have. It
// returns the hosts that were not reached.
func awaitAllDown(ctx context.Context, client *control.Client, state string) (unreached []string, err error) {
	watch := downWatch{began: time.Now(), led: time.Now()}
	for {
		st, err := client.Status(ctx)
		switch {
		case errors.Is(err, control.ErrNoSupervisor) && !host.Claimed(state):
			return watch.unreached, nil
		case ctx.Err() != nil:
			return nil, errors.New("interrupted: the stack goes on being taken down")
		}
		if err := watch.step(time.Now(), st, err); err != nil {
			return nil, err
		}
		clock.Sleep(ctx, askHostEvery)
	}
}

// downPatience is how long there may be no leader while the stack is taken down, and how long the
// leader may take to begin. A leader that is lost before it begins never does; the next one leads a
// stack that is to be up.
const downPatience = 15 * time.Second

// downWatch decides from the leader's answers whether the stack is still being taken down.
type downWatch struct {
	began, led time.Time
	stopping   bool
	unreached  []string
}

// step returns an error when there is no point in waiting any longer. failed is the error of asking
// for st.
func (w *downWatch) step(now time.Time, st supervise.Status, failed error) error {
	if failed != nil {
		if now.Sub(w.led) > downPatience {
			return fmt.Errorf("it is not known whether the stack is down, since nobody leads it any more: 'holdfast host list' shows which hosts are up (%w)", failed)
		}
		return nil
	}
	w.led, w.unreached = now, st.Unreached
	before := w.stopping
	w.stopping = st.Phase == supervise.PhaseStopping
	if !w.stopping && (before || now.Sub(w.began) > downPatience) {
		return fmt.Errorf("another host leads in the middle of it (host %s), and has started again what was stopped: 'holdfast down' once more", st.Host)
	}
	return nil
}
