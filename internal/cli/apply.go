package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

func applyCommand(g *globals) *cobra.Command {
	var show, yes bool
	var as string
	c := &cobra.Command{
		Use:   "apply",
		Short: "Make the running stack what the stack file says, without an outage",
		Long: `Make the running stack what the stack file says: node by node, while it serves.
First it shows what each node needs (start, stop, restart, reload, set or
untouched) and which key of the file causes it; --plan shows that alone. Where
redis nodes or Sentinels leave or move, the master hands over before (hand over),
and each Sentinel that stays forgets them (forget). What cannot be done without an
outage is refused before anything begins.

On a terminal it asks before it stops or restarts anything; without a terminal
it needs --yes for that. The supervisor makes the change: it goes on when this
command ends. A node that does not become well stops the change and is put back
to what it was (exit code 1). The keys below rollout say how careful it is.

Where the file has hosts now, and the stack runs on this machine alone, the machine
becomes the first of them: the one whose address it has, or --as. That needs
"network: trusted": nodes cannot change to TLS while they serve. When the others
have joined ('holdfast host add'), the next 'apply' gives them their nodes. Hosts
that come get their share of the nodes, which move there one after the other.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, base, state, err := locate(g)
			if err != nil {
				return err // also where only a page is missing: it would be a change of the stack
			}
			if needsConversion(s, state) {
				return convertToHosts(cmd.Context(), g, s, base, state, as, changeFlags{show, yes}, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			if as != "" {
				return usagef("--as is for a machine that becomes the first of several hosts")
			}
			if s, base, state, err = locateRunnable(g); err != nil {
				return err
			}
			req := supervise.Request{Kind: "apply", File: string(s.Show()), BaseDir: base}
			return change(cmd.Context(), g, s.Name, g.client(state), req, changeFlags{show, yes}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}

	addChangeFlags(c, &show, &yes)
	c.Flags().StringVar(&as, "as", "", "which host of the stack file this machine is: its `NAME`")
	return c
}

// changeFlags are the flags of a command that changes the stack.
type changeFlags struct{ plan, yes bool }

func addChangeFlags(c *cobra.Command, show, yes *bool) {
	c.Flags().BoolVar(show, "plan", false, "show what would be done, and do nothing")
	c.Flags().BoolVar(yes, "yes", false, "do not ask")
}

// change shows what a request would do, asks for consent, and has the supervisor do it.
func change(ctx context.Context, g *globals, stackName string, client *control.Client, req supervise.Request, flags changeFlags, stdout, stderr io.Writer) error {
	p, err := client.Preview(ctx, req)
	switch {
	case ctx.Err() != nil:
		return errNothingChanged
	case errors.As(err, new(*control.UsageError)) && req.File != "":
		return changeError(stackName, olderSupervisor(ctx, client, err))
	case err != nil:
		return changeError(stackName, err)
	}

	shown := stdout
	if g.json {
		shown = stderr
	}

	if g.json && flags.plan {
		if err := json.NewEncoder(stdout).Encode(p); err != nil {
			return err
		}
	} else {
		printChangePlan(shown, g, p)
	}

	switch {
	case len(p.Refused) > 0:
		return fmt.Errorf("refused, and nothing was changed:\n%s", strings.Join(p.Refused, "\n"))
	case flags.plan || p.Empty():
		return nil
	case !p.Additions() && !flags.yes:
		if err := ask(ctx, g, "Go on?", "nodes would be stopped or started anew, and nobody can be asked: give --yes"); err != nil {
			return err
		}
	}

	req.Generation = p.Generation
	began := time.Now()
	result, err := runChange(ctx, g, client, req, func(e supervise.Event) { printEvent(stderr, g, e) })
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: the change goes on in the background; see 'holdfast status'")
	case err != nil:
		return changeError(stackName, err)
	}

	if g.json {
		if err := json.NewEncoder(stdout).Encode(result); err != nil {
			return err
		}
	}
	if !result.Done {
		return errors.New(result.Why)
	}
	if !g.json {
		fmt.Fprintf(stdout, "%s: done, %d steps in %.1f s\n", req.Kind, result.Steps, time.Since(began).Seconds())
	}
	return nil
}

// changeError returns the error of a change that did not begin, with advice.
func changeError(stackName string, err error) error {
	var usage *control.UsageError
	if errors.As(err, &usage) {
		return usageError{err}
	}
	return nodeError(stackName, err)
}

// printChangePlan shows what a change would do, node by node.
func printChangePlan(w io.Writer, g *globals, p supervise.ChangePlan) {
	if p.Empty() && len(p.Refused) == 0 {
		fmt.Fprintln(w, "Nothing to change: the stack is what was asked for.")
		return
	}

	for _, d := range p.Differences {
		fmt.Fprintf(w, "  %s\n", quote.Line(d.String()))
	}

	if len(p.Differences) > 0 {
		fmt.Fprintln(w)
	}

	forced := map[string]bool{} // restart although nothing about them changes
	for _, s := range p.Steps {
		forced[s.Node] = forced[s.Node] || s.Action == plan.Restart
	}

	known := map[string]bool{}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tACTION\tBECAUSE OF")
	for _, n := range p.Nodes {
		known[n.Node] = true
		action, why := n.Action, strings.Join(n.Causes, ", ")
		if forced[n.Node] && action != plan.Restart {
			action, why = plan.Restart, "it was asked for"
			switch {
			case slices.Contains(p.Replaced, n.Node):
				why = "the file of its program was replaced"
			case slices.Contains(p.Tokens, n.Node):
				why = "its tokens file has changed"
			}
		}
		if n.Moves() {
			why += " (from " + n.From + ")"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", n.Node, action, quote.Line(why))
	}

	for _, s := range p.Steps {
		switch {
		case s.Action == plan.HandOver:
			fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Node, s.Action, "it is the Redis master, and another node takes its place before it leaves")
		case !known[s.Node]:
			known[s.Node] = true
			fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Node, "start, stop", "it serves while others are started anew (rollout.surge)")
		}
	}

	for _, node := range forgettingSentinels(p.Steps) {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", node, plan.Forget, quote.Line(forgottenBy(p.Steps, node))+": it forgets all nodes, alone and while the others watch the master, and finds those that stay again")
	}

	tw.Flush()
}

// forgettingSentinels returns the Sentinels that forget nodes, sorted.
func forgettingSentinels(steps []plan.Step) (nodes []string) {
	for _, s := range steps {
		if s.Action == plan.Forget && !slices.Contains(nodes, s.Node) {
			nodes = append(nodes, s.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// forgottenBy returns words for the nodes that a Sentinel forgets.
func forgottenBy(steps []plan.Step, sentinel string) string {
	var names []string
	for _, s := range steps {
		if s.Action == plan.Forget && s.Node == sentinel {
			names = append(names, s.Gone...)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 1 {
		return names[0] + " is no longer where it was"
	}
	return strings.Join(names, ", ") + " are no longer where they were"
}

// printEvent prints a step of a change.
func printEvent(w io.Writer, g *globals, e supervise.Event) {
	text := fmt.Sprintf("[%d/%d] %s %s: %s", e.Step, e.Of, e.Action, e.Node, e.What)
	if e.Text != "" {
		text += ": " + e.Text
	}
	fmt.Fprintln(w, g.renderMessage(text))
}
