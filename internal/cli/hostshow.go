package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// What the user sees when a host of several starts, in the foreground or with -d.

const (
	// leaderPatience is how long a starting host waits for a leader before it reports what is
	// missing.
	leaderPatience = 15 * time.Second
	// askHostEvery is the time between two requests to a starting host, which may have to ask
	// another host.
	askHostEvery = 300 * time.Millisecond
)

// errNoLeader is the error of a host that is up while the stack waits for other hosts.
var errNoLeader = errors.New("no host leads the stack yet: it goes on when a majority of its hosts is up")

// awaitLead waits until this host is up, a host leads, and the leader's supervisor answers. It
// returns the last view even if that fails.
func awaitLead(ctx context.Context, client *control.Client) (v host.View, st supervise.Status, err error) {
	for began := time.Now(); ; {
		var viewErr error
		if v, viewErr = client.Hosts(ctx); viewErr == nil && hasVote(v) {
			if st, err = client.Status(ctx); err == nil || errors.As(err, new(*control.WaitsError)) {
				return v, st, err
			}
		}
		if ctx.Err() != nil {
			return v, st, ctx.Err()
		}
		if time.Since(began) > leaderPatience {
			switch {
			case viewErr != nil:
				return v, st, viewErr
			case v.Leader == "" || !hasVote(v):
				return v, st, errNoLeader
			}
			return v, st, err
		}
		clock.Sleep(ctx, askHostEvery)
	}
}

// hasVote reports whether the host that was asked belongs to the stack and has a vote.
func hasVote(v host.View) bool {
	return slices.ContainsFunc(v.Hosts, func(s host.HostView) bool { return s.Name == v.Here && s.Votes })
}

// slowStatusReader returns a status reader for showStart that asks rarely. It returns the last
// answer again while the leader changes, or begins again because a host has joined.
func slowStatusReader(ctx context.Context, client *control.Client, last supervise.Status) func() (supervise.Status, error) {
	asked, answered := time.Now(), time.Now()
	return func() (supervise.Status, error) {
		if time.Since(asked) < askHostEvery {
			return last, nil
		}
		asked = time.Now()
		st, err := client.Status(ctx)
		switch {
		case err == nil:
			last, answered = st, asked
		case ctx.Err() == nil && asked.Sub(answered) < leaderPatience && !errors.Is(err, control.ErrNoSupervisor):
			return last, nil
		}
		return last, err
	}
}

// showHost shows how the stack comes up, as far as this host knows, and what to do next.
func showHost(ctx context.Context, g *globals, start *hostStart, stdout, stderr io.Writer) {
	if g.background {
		return
	}
	began := time.Now()
	client := control.NewClient(start.state)
	v, st, err := awaitLead(ctx, client)
	if ctx.Err() != nil {
		return
	}
	if errors.As(err, new(*control.WaitsError)) {
		fmt.Fprintf(stdout, "%s\n", g.renderMessage(waitsText(v, err)))
	} else if err != nil {
		fmt.Fprintf(stderr, "holdfast: %s\n", g.renderMessage(err.Error()))
	} else if err := showStack(ctx, g, start, client, began, v.Here, st, stdout, stderr); err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "holdfast: %s\n", g.renderMessage(err.Error()))
	}
	if ctx.Err() == nil && g.getenv("NOTIFY_SOCKET") == "" && !g.contained {
		fmt.Fprintf(stdout, "\nCtrl-C ends the part of this host, and its nodes run on; %s takes the stack down.\n", g.command("down"))
	}
}

// showStack shows how the stack comes up, and prints a summary.
func showStack(ctx context.Context, g *globals, start *hostStart, client *control.Client, began time.Time, here string, st supervise.Status, stdout, stderr io.Writer) error {
	fmt.Fprintf(stderr, "This is host %s of the stack %s; host %s leads.\n", here, st.Stack, st.Host)
	st, err := showStart(ctx, g, stderr, slowStatusReader(ctx, client, st))
	if err != nil {
		return err
	}
	s := start.stack
	if last, _, known := supervise.LastFile(start.state); known {
		s = last
	}
	showSummary(stdout, g, st, plan.Plan{Stack: s}, time.Since(began))
	return nil
}

// upHostDetached starts this host's process in the background, and waits until the stack is up or
// cannot go on without other hosts. args are those of the background half.
func upHostDetached(ctx context.Context, g *globals, start *hostStart, args []string, stdout, stderr io.Writer) error {
	began := time.Now()
	child, err := startBackground(args)
	if err != nil {
		return err
	}

	client := control.NewClient(start.state)
	for {
		if v, err := client.Hosts(ctx); err == nil && v.PID == child.pid {
			break
		}
		select {
		case err := <-child.ended:
			return err
		case <-ctx.Done():
			_ = child.signal(syscall.SIGTERM) // if it has ended this does nothing
			return <-child.ended
		case <-time.After(drawEvery):
		}
	}

	const goesOn = "interrupted: this host goes on in the background; see 'holdfast status'"
	v, st, err := awaitLead(ctx, client)
	switch {
	case ctx.Err() != nil:
		return errors.New(goesOn)
	case errors.Is(err, errNoLeader):
		_, err = fmt.Fprintf(stdout, "Host %s is up. %s\n", v.Here, g.renderMessage(waitsFor(v)))
		return err
	case errors.As(err, new(*control.WaitsError)):
		_, err = fmt.Fprintf(stdout, "%s\n", g.renderMessage(waitsText(v, err)))
		return err
	case err != nil:
		return fmt.Errorf("this host is up in the background: %w", err)
	}

	err = showStack(ctx, g, start, client, began, v.Here, st, stdout, stderr)
	if ctx.Err() != nil {
		return errors.New(goesOn)
	}
	return err
}

// waitsText returns what a stack waits for that has not begun.
func waitsText(v host.View, why error) string {
	return fmt.Sprintf("Host %s of the stack %s is up. %v.", v.Here, v.Stack, why)
}

// waitsFor returns which hosts a stack without a leader waits for.
func waitsFor(v host.View) string {
	var silent []string
	for _, s := range v.Hosts {
		if !s.Reachable {
			silent = append(silent, s.Name)
		}
	}
	if len(silent) == 0 {
		return "No host leads the stack yet: see 'holdfast host list'."
	}
	slices.Sort(silent)
	return fmt.Sprintf("The stack goes on when a majority of its hosts is up: %s cannot be reached.", hostNames(silent))
}
