package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// nodeCommands returns the commands that act on nodes: six verbs of one shape.
func nodeCommands(g *globals) []*cobra.Command {
	verbs := []struct {
		action      supervise.Action
		done, short string
	}{
		{supervise.ActStart, "up", "Start nodes that were stopped or have failed"},
		{supervise.ActStop, "down", "Stop nodes; they stay down until they are started"},
		{supervise.ActRestart, "up again", "Stop nodes and start them again; of an application, one after the other"},
		{supervise.ActKill, "killed; the supervisor starts it again", "Kill nodes (SIGKILL), as a crash would"},
		{supervise.ActPause, "paused", "Pause nodes (SIGSTOP), as a hang would"},
		{supervise.ActResume, "resumed", "Let paused nodes go on (SIGCONT)"},
	}

	var commands []*cobra.Command
	for _, v := range verbs {
		c := &cobra.Command{
			Use:   string(v.action) + " NODE...",
			Short: v.short,
			Args:  cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return actOnAll(cmd.Context(), g, args, v.action, v.done, cmd.OutOrStdout(), cmd.ErrOrStderr())
			},
			ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
				names := nodeNames(cmd.Context(), g)
				return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) }), cobra.ShellCompDirectiveNoFileComp
			},
		}
		if v.action == supervise.ActRestart {
			c.Use = "restart NODE|APP..."
			c.Long = `Stop nodes and start them again, one after the other. Each leaves rotation before it
stops, and the Redis master hands over first.

The name of an application stands for all of its nodes. They are started anew with
the brake of 'holdfast rollout': the next follows when the last is in rotation and
was well for rollout.settle; the first that is not ends it (exit code 1).`
		}
		commands = append(commands, c)
	}
	return commands
}

// actOnAll carries an action out on nodes, one after the other, and ends at the first failure.
func actOnAll(ctx context.Context, g *globals, names []string, action supervise.Action, done string, stdout, stderr io.Writer) error {
	s, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	client := g.client(state)
	known, err := namesThere(ctx, client, names, action)
	if err != nil {
		return nodeError(s.Name, err)
	}
	for _, name := range names {
		if nodes := known[name]; len(nodes) > 0 { // the name of an application
			if err := carryOut(ctx, g, supervise.Request{Kind: "restart", Force: nodes}, stdout, stderr); err != nil {
				return err
			}
			continue
		}
		if err := client.Do(ctx, name, action); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted: the supervisor may still %s %s; see %s", action, name, g.command("status"))
			}
			return nodeError(s.Name, err)
		}
		if _, err := fmt.Fprintf(stdout, "%s is %s\n", name, done); err != nil {
			return err
		}
	}
	return nil
}

// namesThere checks that all names are valid before anything is done. It returns the nodes of the
// names that are applications, which can only be restarted.
func namesThere(ctx context.Context, client *control.Client, names []string, action supervise.Action) (nodesOf map[string][]string, err error) {
	st, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	nodesOf = map[string][]string{}
	var nodes []string
	for _, n := range st.Nodes {
		nodes = append(nodes, n.Name)
		if n.App != "" {
			nodesOf[n.App] = append(nodesOf[n.App], n.Name)
		}
	}
	for _, name := range names {
		_, isNode := st.Node(name)
		switch {
		case isNode:
			delete(nodesOf, name)
		case len(nodesOf[name]) > 0 && action != supervise.ActRestart:
			return nil, usageError{fmt.Errorf("%s is an application: write which of its nodes to %s, such as %s", name, action, nodesOf[name][0])}
		case len(nodesOf[name]) == 0:
			return nil, usageError{&supervise.UnknownNodeError{Node: name, Nodes: nodes}}
		}
	}
	return nodesOf, nil
}

// nodeNames returns the names of all nodes for the shell's completion, or none if nobody answers.
func nodeNames(ctx context.Context, g *globals) []string {
	return namesOf(ctx, g, func(supervise.NodeStatus) bool { return true })
}

// redisReplicas returns the names of the replicas for the shell's completion.
func redisReplicas(ctx context.Context, g *globals) []string {
	return namesOf(ctx, g, func(n supervise.NodeStatus) bool { return n.Kind == plan.Redis && n.Role == "replica" })
}

func namesOf(ctx context.Context, g *globals, fits func(supervise.NodeStatus) bool) (names []string) {
	for _, n := range nodesOf(ctx, g) {
		if fits(n) {
			names = append(names, n.Name)
		}
	}
	return names
}

// nodesOf returns the nodes of the stack, or none if nobody answers.
func nodesOf(ctx context.Context, g *globals) []supervise.NodeStatus {
	read, err := statusReader(g)
	if err != nil {
		return nil
	}
	st, err := read(ctx)
	if err != nil {
		return nil
	}
	return st.Nodes
}
