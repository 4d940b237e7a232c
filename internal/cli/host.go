package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/identity"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func hostCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "host",
		Short: "Let hosts join the stack, list, remove and replace them",
		Long: `Let hosts join the stack, list, remove and replace them. Each works at any host of the
stack that is up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(hostAddCommand(g), hostListCommand(g), hostRemoveCommand(g), hostReplaceCommand(g), hostRenewCommand(g))
	return c
}

// invitation is the flags of 'host add' and 'host replace' about the new host.
type invitation struct {
	address string
	life    time.Duration
	most    time.Duration // the longest value of life; 0: a day
}

func (o *invitation) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.address, "address", "", "`IP` address of the host; without it, that of the stack file")
	c.Flags().DurationVar(&o.life, "for", identity.DefaultTokenLife, "how long the line can be used")
}

func hostAddCommand(g *globals) *cobra.Command {
	var o invitation
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Print the line by which a host joins",
		Long: `Print the line by which a host of the stack file joins: to be pasted there, once, and
soon. It is a secret until then. A second 'add' of the same host makes the first
line void.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := severalHosts(cmd.Context(), g)
			if err != nil {
				return err
			}
			at, err := o.check(t, args[0])
			if err != nil {
				return err
			}
			return o.invite(cmd.Context(), g, t, args[0], at, cmd.OutOrStdout())
		},
	}
	o.flags(c)
	return c
}

// hostsThere is a stack of several hosts, as the commands for hosts see it.
type hostsThere struct {
	stack  stack.Stack
	state  string
	client *control.Client
	view   host.View
	// guessed are the hosts of which only the names and addresses are known here.
	guessed map[string]bool
}

// severalHosts asks this host about the hosts of its stack.
func severalHosts(ctx context.Context, g *globals) (t hostsThere, err error) {
	s, _, state, err := locateRunning(g)
	if err != nil {
		return t, err
	}
	t.stack, t.state, t.client = s, state, g.client(state)
	t.view, err = t.client.Hosts(ctx)
	switch {
	case errors.As(err, new(*control.UnknownNodeError)):
		return t, fmt.Errorf("the stack %s runs on this machine alone: see docs/hosts.md for several", s.Name)
	case errors.Is(err, control.ErrNoSupervisor) && isJoined(state):
		return t, errors.New("this host is not up: 'holdfast up -d' has it take part again, or run this at another host of the stack")
	case errors.Is(err, control.ErrNoSupervisor):
		return t, fmt.Errorf("no stack %s of several hosts is up here: run this at a host of it, or begin with 'holdfast up'", s.Name)
	}
	file := s.Hosts
	if last, _, known := supervise.LastFile(state); known {
		t.stack = last
	}
	t.stack.Hosts, t.guessed = joinableHosts(t.stack.Hosts, file, t.view)
	return t, err
}

// joinableHosts returns the hosts that a stack has or may have: those that it runs with, those in
// the stack file at hand, and those that were planned when the stack was founded. Only names and
// addresses are known of the planned hosts; they are in guessed.
func joinableHosts(running, file []stack.Host, v host.View) (all []stack.Host, guessed map[string]bool) {
	all, guessed = slices.Clone(running), map[string]bool{}
	has := func(name string) bool {
		return slices.ContainsFunc(all, func(o stack.Host) bool { return o.Name == name })
	}
	for _, h := range file {
		if !has(h.Name) {
			all = append(all, h)
		}
	}
	for _, p := range v.Planned {
		if !has(p.Name) {
			all = append(all, stack.Host{Name: p.Name, Address: p.Address.String()})
			guessed[p.Name] = true
		}
	}
	return all, guessed
}

// viewOf returns a host that has joined.
func (t hostsThere) viewOf(name string) (host.HostView, bool) {
	i := slices.IndexFunc(t.view.Hosts, func(s host.HostView) bool { return s.Name == name })
	if i < 0 {
		return host.HostView{}, false
	}
	return t.view.Hosts[i], true
}

// check checks the flags, and returns the address of the host that is to join.
func (o *invitation) check(t hostsThere, name string) (at netip.Addr, err error) {
	if most := cmp.Or(o.most, 24*time.Hour); o.life < time.Minute || o.life > most {
		return at, usagef("--for %v: give a time from 1m to %.0fh", o.life, most.Hours())
	}
	var names []string
	address := o.address
	for _, h := range t.stack.Hosts {
		names = append(names, h.Name)
		if h.Name == name {
			address = cmp.Or(address, h.Address)
		}
	}
	switch {
	case !slices.Contains(names, name):
		return at, usagef("no host of the stack file is called %q: there are %s; a new one gets its line in the file", name, listed(names))
	case address == "":
		return at, usagef("give the host's address: --address IP")
	}
	if at, err = netip.ParseAddr(address); err != nil {
		return at, usagef("--address %q is no IP address", address)
	}
	return at.Unmap(), nil
}

// invite prints the command line with which a host joins.
func (o *invitation) invite(ctx context.Context, g *globals, t hostsThere, name string, at netip.Addr, stdout io.Writer) error {
	invited, err := t.client.Invite(ctx, name, at, o.life)
	if err != nil {
		return err
	}
	if g.json {
		return json.NewEncoder(stdout).Encode(invited)
	}
	fmt.Fprintf(g.stderr, "Paste this on host %s (%s) until %s; it works once:\n", name, at, invited.Expires.Local().Format(time.TimeOnly))
	_, err = fmt.Fprintf(stdout, "holdfast join %s\n", invited.Token)
	return err
}

func hostListCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the hosts, as this one sees them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := severalHosts(cmd.Context(), g)
			if err != nil {
				return err
			}
			return t.list(g, cmd.OutOrStdout())
		},
	}
}

// listing is what 'host list --json' prints.
type listing struct {
	host.View
	// NotJoined are the hosts of the stack file that have not joined.
	NotJoined []string `json:"not_joined"`
}

func (t hostsThere) list(g *globals, w io.Writer) error {
	absent := notJoined(t.stack, t.view)
	if g.json {
		return json.NewEncoder(w).Encode(listing{t.view, append([]string{}, absent...)})
	}
	yes := map[bool]string{true: "yes", false: "no"}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "HOST\tADDRESS\tJOINED\tVOTES\tLEADS\tVERSION\tREACHABLE")
	for _, s := range t.view.Hosts {
		reachable := yes[s.Reachable]
		if s.Name == t.view.Here {
			reachable = "this one"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Address, s.Joined.Local().Format(time.DateTime),
			yes[s.Votes], yes[s.Leads], cmp.Or(s.Version, "-"), reachable)
	}
	for _, h := range t.stack.Hosts {
		if slices.Contains(absent, h.Name) {
			fmt.Fprintf(tw, "%s\t%s\tno\t-\t-\t-\t-\n", h.Name, h.Address)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if t.view.Leader == "" {
		fmt.Fprintf(w, "\n%s\n", g.renderMessage(waitsFor(t.view)))
	}
	return nil
}

func hostRenewCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Renew the certificate of this host now",
		Long: `Renew the certificate of this host, with a new key, now. Hosts do so by themselves after
two thirds of its 90 days. The nodes of the host take it up within seconds: connections
that are open stay, and a Sentinel is started anew, one after the other.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := severalHosts(cmd.Context(), g)
			if err != nil {
				return err
			}
			renewed, err := t.client.RenewCertificate(cmd.Context())
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(renewed)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The certificate of host %s is new, and ends at %s.\n", t.view.Here, renewed.Until.Local().Format(time.DateTime))
			return err
		},
	}
}

func hostRemoveCommand(g *globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Move a host's nodes to the other hosts, and take it out of the stack",
		Long: `Take a host out of the stack, while the stack serves. Its nodes move to the other hosts
before, one after the other, as 'holdfast apply' moves them. Take its lines out of the
stack file, too. Of a host that cannot be reached nothing is moved or stopped; when it
comes back, it ends its nodes and leaves the stack.

It asks first. What would leave the stack without a majority is refused.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := severalHosts(cmd.Context(), g)
			if err != nil {
				return err
			}
			there, is := t.viewOf(args[0])
			last, base, known := supervise.LastFile(t.state)
			if is && there.Reachable && known && slices.ContainsFunc(last.Hosts, func(h stack.Host) bool { return h.Name == args[0] }) {
				return t.clear(cmd.Context(), g, args[0], last, base, yes, cmd.OutOrStdout())
			}
			return t.remove(cmd.Context(), g, args[0], yes, cmd.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func hostReplaceCommand(g *globals) *cobra.Command {
	var yes bool
	var o invitation
	c := &cobra.Command{
		Use:   "replace NAME",
		Short: "Remove a host, and print the line by which another machine takes its place",
		Long: `Take a host out of the stack, and print the line by which another machine, or the same
one, joins in its place. The nodes of the host stop, and start on the machine that
joins under their names; a redis node takes its data from the others.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := severalHosts(cmd.Context(), g)
			if err != nil {
				return err
			}
			at, err := o.check(t, args[0]) // check this before anything is done
			if err != nil {
				return err
			}
			if err := t.remove(cmd.Context(), g, args[0], yes, g.stderr); err != nil {
				return err
			}
			return o.invite(cmd.Context(), g, t, args[0], at, cmd.OutOrStdout())
		},
	}
	o.flags(c)
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// clear moves the nodes of a host to the other hosts, and removes the host from the stack.
func (t hostsThere) clear(ctx context.Context, g *globals, name string, last stack.Stack, base string, yes bool, stdout io.Writer) error {
	without := last.Without(name)
	if len(without.Hosts) == 0 {
		return fmt.Errorf("host %s is the only one: 'holdfast down' takes the stack down", name)
	}
	if _, _, err := stack.Parse("the stack file", without.Show()); err != nil {
		return fmt.Errorf("without host %s the stack cannot be; correct the stack file first, and 'holdfast apply' moves the nodes:\n%w", name, err)
	}
	req := supervise.Request{Kind: "apply", File: string(without.Show()), BaseDir: base}
	if err := change(ctx, g, t.view.Stack, t.client, req, changeFlags{yes: yes}, g.stderr, g.stderr); err != nil {
		return fmt.Errorf("host %s was not removed: %w", name, err)
	}
	if err := t.removeHost(ctx, name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "host %s is removed; take it out of the stack file, too\n", name)
	return err
}

// remove stops the nodes of a host, and removes the host from the stack.
func (t hostsThere) remove(ctx context.Context, g *globals, name string, yes bool, stdout io.Writer) error {
	there, is := t.viewOf(name)
	if !is {
		return usagef("no host that has joined is called %q: see 'holdfast host list'", name)
	}

	st, err := t.client.Status(ctx)
	if err != nil {
		return err
	}

	var nodes []string // those that run there
	for _, n := range st.Nodes {
		if n.Host == name && n.State != supervise.Down {
			nodes = append(nodes, n.Name)
		}
	}

	if !yes {
		if err := ask(ctx, g, t.warning(there, nodes), "a host would be removed, and nobody can be asked: give --yes"); err != nil {
			return err
		}
	}

	if there.Reachable {
		for _, node := range nodes {
			if err := t.client.Do(ctx, node, supervise.ActStop); err != nil {
				return fmt.Errorf("host %s was not removed, since its node %s does not stop: %w", name, node, err)
			}
			fmt.Fprintf(g.stderr, "%s is down\n", node)
		}
	}

	if err := t.removeHost(ctx, name); err != nil {
		return err
	}

	_, err = fmt.Fprintf(stdout, "host %s is removed\n", name)
	return err
}

// warning returns what a removal would end.
func (t hostsThere) warning(there host.HostView, nodes []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Host %s (%s) leaves the stack %s.", there.Name, there.Address, t.view.Stack)
	switch {
	case !there.Reachable:
		text.WriteString(" It cannot be reached: what runs there is not stopped.")
	case len(nodes) > 0:
		fmt.Fprintf(&text, " These nodes stop: %s.", strings.Join(nodes, ", "))
	}
	votes := 0
	for _, s := range t.view.Hosts {
		if s.Votes && s.Name != there.Name {
			votes++
		}
	}
	fmt.Fprintf(&text, " %s", map[bool]string{
		true:  fmt.Sprintf("%d hosts with a vote are left, and the stack bears the loss of %d of them.", votes, (votes-1)/2),
		false: "One host is left, and the stack does not bear its loss.",
	}[votes > 1])
	return text.String() + " Go on?"
}

// removeHost has the leader remove a host. If that host is the leader, it hands the lead over first,
// and the next leader is asked again.
func (t hostsThere) removeHost(ctx context.Context, name string) error {
	const patience = 20 * time.Second
	var err error
	for began := time.Now(); time.Since(began) < patience && ctx.Err() == nil; clock.Sleep(ctx, askHostEvery) {
		// If the answer was lost, the host may have been removed all the same.
		v, viewErr := t.client.Hosts(ctx)
		if viewErr == nil && v.Leader != "" && err != nil && !slices.ContainsFunc(v.Hosts, func(s host.HostView) bool { return s.Name == name }) {
			return nil
		}
		if viewErr == nil && v.Here == name && errors.Is(err, control.ErrNoSupervisor) {
			return nil
		}
		if err = t.client.RemoveHost(ctx, name); err == nil || !errors.As(err, new(*control.BusyError)) {
			return err
		}
	}
	return err
}
