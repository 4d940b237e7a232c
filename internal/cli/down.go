package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/drill"
	"holdfast/internal/private"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

func downCommand(g *globals) *cobra.Command {
	var purge, anyway bool
	c := &cobra.Command{
		Use:   "down [HOST]",
		Short: "Take the stack down, or one of its hosts; data stays",
		Long: `Take the stack down: the balancers first, then the applications, the
Sentinels, the Redis master and its replicas. Data and topology stay for the
next 'up', unless --purge removes them for good. It works also when the
supervisor has crashed and only the nodes run. Of several hosts any one takes the
whole stack down, and the process of each host ends. --purge removes the data of all
hosts, and what makes them hosts of the stack: 'up' begins anew. All of them have to be up.

A change that is under way ends with the stack. After 'apply' the next 'up' starts
every node as the stack file says then; what a rollout, a scale and the like asked
for is given up.

With the name of a host, that host goes down for maintenance, and the stack runs on
without it: another host has the Redis master and the virtual address first, then the
nodes of the host stop, and its process ends. It works from any host, and the host may
be restarted or switched off then. 'holdfast up' there, or its service at boot, brings
it back. What its absence would end is said and refused, unless --anyway is given.`,
		Example: `  holdfast down            take the stack down
  holdfast down two        take host two down for maintenance`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && purge {
				return usagef("--purge is for the whole stack, and not for one host")
			}
			if len(args) == 1 {
				return downHost(cmd.Context(), g, cmd.OutOrStdout(), args[0], anyway)
			}
			if anyway {
				return usagef("--anyway is for one host: 'holdfast down HOST --anyway'")
			}
			said, err := down(cmd.Context(), g, purge)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}

	c.Flags().BoolVar(&purge, "purge", false, "remove the stack's data, ports and secrets too")
	c.Flags().BoolVar(&anyway, "anyway", false, "take a host down although its absence ends something")
	return c
}

// down takes the stack down, and returns what to tell the user.
func down(ctx context.Context, g *globals, purge bool) (said string, err error) {
	_, _, state, err := locateRunning(g)
	if err != nil {
		return "", err
	}
	if isJoined(state) {
		return downHosts(ctx, g, state, purge)
	}

	kept := supervise.HasState(state)
	if _, err := os.Stat(state); errors.Is(err, os.ErrNotExist) {
		return nothingThere(state, purge), nil
	}

	running, err := supervise.Running(state)
	if err != nil {
		return "", err
	}

	running = running || supervise.Locked(state)
	// Files that other users may have put into the directory are not acted upon.
	if err := private.CheckDir(state); err != nil {
		if kept || running {
			return "", err
		}
		return nothingThere(state, purge), nil
	}

	change := underWay(ctx, state)
	if purge {
		if err := endDrill(ctx, g); err != nil {
			return "", err
		}
	}

	took, err := takeDown(ctx, g, purge)
	if err != nil {
		return "", err
	}
	if purge {
		if err := purgeDrill(ctx, g); err != nil {
			return "", err
		}
	}

	switch {
	case !kept:
		return nothingThere(state, purge), nil
	case running:
		said = fmt.Sprintf("down after %.1f s; ", took.Seconds())
	default:
		said = "it was down already; "
	}

	if purge {
		return said + "data removed", nil
	}

	said += "data stays"
	if change != nil {
		said += fmt.Sprintf("\nA change was under way (%s): %s", change.Kind, supervise.InterruptedText(change.Kind))
	}
	return g.renderMessage(said), nil
}

// underWay returns the change that goes on or waits in a stack, or nil.
func underWay(ctx context.Context, state string) *supervise.ChangeStatus {
	if st, err := control.NewClient(state).Status(ctx); err == nil {
		return st.Change
	}
	return supervise.UnfinishedChange(state) // its supervisor has died
}

// nothingThere returns the message for a state directory without a stack.
func nothingThere(state string, purge bool) string {
	said := "nothing to take down"
	if purge {
		said += ", and no data to remove"
	}
	return fmt.Sprintf("%s: there is no stack in %s", said, quote.Shell(state))
}

// endDrill undoes what a killed drill has left, while the stack is still up. It ignores what cannot
// be undone: most of that goes together with the data, and purgeDrill reports the rest.
func endDrill(ctx context.Context, g *globals) error {
	_, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	releaseDrillLock, err := supervise.NoDrill(state)
	if err != nil {
		return fmt.Errorf("%w: nothing is removed", err)
	}
	releaseDrillLock()
	_, _ = drill.Undo(ctx, state, nil, false)
	return nil
}

// purgeDrill undoes what is left of a drill that was killed together with the process that would
// have undone it. Nothing in the stack is in its way any more.
func purgeDrill(ctx context.Context, g *globals) error {
	_, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	if _, err := drill.Undo(ctx, state, nil, false); err != nil {
		return fmt.Errorf("the stack's data is removed, but a drill has left something that cannot be undone: %w", err)
	}
	os.Remove(state) // succeeds only if it is empty
	return nil
}

func takeDown(ctx context.Context, g *globals, purge bool) (time.Duration, error) {
	began := time.Now()
	s, base, state, err := locateRunning(g)
	if err != nil {
		return 0, err
	}

	client := control.NewClient(state)
	releaseDrillLock, err := claimDown(ctx, client, state, purge)
	switch {
	case err == nil:
		if err := awaitDown(ctx, client, state); err != nil {
			return 0, err
		}
		st, err := supervise.OfflineStatus(s, base, state)
		if err != nil {
			return 0, err
		}
		return time.Since(began), checkDown(st, state, purge)
	case !errors.Is(err, control.ErrNoSupervisor):
		return 0, err
	}

	// Without a supervisor this process does its work. If the file at hand has hosts, the file that
	// the stack runs with decides instead.
	if last, lastDir, known := supervise.LastFile(state); known && len(s.Hosts) > 0 {
		s, base = last, lastDir
	}

	sup, closeLog, err := openSupervisor(g, s, base, state)
	if err != nil {
		releaseDrillLock()
		return 0, err
	}
	defer closeLog()
	defer sup.Close()

	sup.Watch()
	// Ctrl-C kills what is left.
	err = sup.Stop(context.WithoutCancel(ctx), ctx.Done())
	releaseDrillLock() // a purge checks for drills itself
	if err != nil {
		return 0, err
	}
	if purge {
		err = sup.Purge()
	}
	return time.Since(began), err
}

// claimDown asks the supervisor to take the stack down. If there is none, it also keeps drills out
// until releaseDrillLock is called, because the process that undoes a drill that killed the
// supervisor would start a new one. It gives such a process a moment to finish. A drill that still
// goes on after that either has a stack of its own (--own), or is not waited for.
func claimDown(ctx context.Context, client *control.Client, state string, purge bool) (releaseDrillLock func(), err error) {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(drawEvery) {
		releaseDrillLock, busy := supervise.KeepDrillOut(state)
		if busy != nil {
			releaseDrillLock = func() {}
		}
		err := askDown(ctx, client, state, purge)
		if !errors.Is(err, control.ErrNoSupervisor) {
			releaseDrillLock()
			return nil, err
		}
		if busy == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return releaseDrillLock, err
		}
	}
}

// askDown asks the supervisor. A supervisor that has just started, or is about to end, holds the
// lock without answering, so it gets a moment.
func askDown(ctx context.Context, client *control.Client, state string, purge bool) error {
	const patience = 5 * time.Second
	var err error
	clock.Within(patience, drawEvery, func() bool {
		err = client.Down(ctx, purge)
		return !errors.Is(err, control.ErrNoSupervisor) || !supervise.Locked(state)
	})
	return err
}

// checkDown checks whether a supervisor that is gone has done its work. It may have failed or been
// killed.
func checkDown(st supervise.Status, state string, purge bool) error {
	for _, n := range st.Nodes {
		if n.PID != 0 {
			return fmt.Errorf("%s still runs (pid %d), but its supervisor is gone; 'holdfast down' again ends it, and 'holdfast logs supervisor' may say why", n.Name, n.PID)
		}
	}
	if purge {
		nodes := filepath.Join(state, "nodes")
		if _, err := os.Stat(nodes); err == nil {
			return fmt.Errorf("the stack is down, but its data in %s is still there; 'holdfast down --purge' again removes it", nodes)
		}
	}
	return nil
}

// awaitDown waits until the supervisor is gone and has released its lock, so that an 'up' that
// follows can start.
func awaitDown(ctx context.Context, client *control.Client, state string) error {
	for {
		_, err := client.Status(ctx)
		switch {
		case errors.Is(err, control.ErrNoSupervisor) && !supervise.Locked(state):
			return nil
		case ctx.Err() != nil:
			return errors.New("interrupted: the stack goes on being taken down")
		}
		clock.Sleep(ctx, drawEvery)
	}
}
