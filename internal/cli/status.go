package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func statusCommand(g *globals) *cobra.Command {
	var watch, here bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the stack and its nodes",
		Long: `Show the stack and its nodes. With --watch, live: redrawn on a terminal, else a
line for each change (with --json, a JSON object a line). Exit code 1 when the
stack is not ready.

With --here, only the nodes of this host, also while no host leads. Exit code 1 when
one of them is not up: a health check of a container.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if here {
				return showHere(cmd.Context(), g, out)
			}
			read, err := statusOf(g, g.client)
			if err != nil {
				return err
			}
			if watch {
				return watchStatus(cmd.Context(), g, out, watchEvery, read)
			}
			st, err := read(cmd.Context())
			if err != nil {
				return err
			}
			if err := printStatus(g, out, st); err != nil {
				return err
			}
			if !st.Ready {
				return errReported
			}
			return nil
		},
	}

	c.Flags().BoolVar(&here, "here", false, "only the nodes of this host, and whether they are up")
	c.Flags().BoolVar(&watch, "watch", false, "go on showing it until Ctrl-C")
	return c
}

// statusReader returns a function that asks the supervisor for the status. If no supervisor runs,
// the function looks at what the last one left.
func statusReader(g *globals) (func(context.Context) (supervise.Status, error), error) {
	return statusOf(g, control.NewClient)
}

// statusOf is statusReader with a function that makes the client.
func statusOf(g *globals, newClient func(state string) *control.Client) (func(context.Context) (supervise.Status, error), error) {
	s, base, state, err := locateRunning(g)
	if err != nil {
		return nil, err
	}
	client := newClient(state)
	if _, lastDir, known := supervise.LastFile(state); known && isJoined(state) {
		base = lastDir // on another host the same file may have another path
	}
	digest := supervise.FileDigest(s, base)
	return func(ctx context.Context) (supervise.Status, error) {
		st, err := client.Status(ctx)
		if errors.Is(err, control.ErrNoSupervisor) {
			return lookHere(s, base, state)
		}
		if st.Differs = st.File != "" && st.File != digest; st.Differs {
			same, _ := supervise.Runs(state, s, base) // a supervisor of another version may compute the digest differently
			st.Differs = !same
		}
		return st, err
	}, nil
}

// hereLimit is how long a health check waits for the leading host.
const hereLimit = 2 * time.Second

// showHere shows the nodes of this host: as the stack's supervisor reports them, or else as they
// are found here.
func showHere(ctx context.Context, g *globals, out io.Writer) error {
	s, base, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hereLimit)
	defer cancel()
	st, err := control.NewClient(state).Status(ctx)
	if err != nil {
		if st, err = lookHere(s, base, state); err != nil {
			return err
		}
	}
	if self, notJoined := host.ReadSelf(state); notJoined == nil {
		st.Nodes = slices.DeleteFunc(st.Nodes, func(n supervise.NodeStatus) bool { return n.Host != self.Name })
	}
	if err := printStatus(g, out, st); err != nil {
		return err
	}
	notUp := func(n supervise.NodeStatus) bool { return n.State != supervise.Up && !n.Kind.Traits().Optional }
	if len(st.Nodes) == 0 || slices.ContainsFunc(st.Nodes, notUp) {
		return errReported
	}
	return nil
}

// lookHere returns the status of a stack without a supervisor, as it is found on this machine. On a
// host of several it has only this host's nodes.
func lookHere(s stack.Stack, base, state string) (supervise.Status, error) {
	st, err := supervise.OfflineStatus(s, base, state)
	if self, notJoined := host.ReadSelf(state); notJoined == nil {
		st.Nodes = slices.DeleteFunc(st.Nodes, func(n supervise.NodeStatus) bool { return n.Host != self.Name })
		st.Host = self.Name
	}
	return st, err
}

// changes returns a line for each change that goes on, waits or is possible.
func changes(g *globals, st supervise.Status) string {
	var text strings.Builder
	for _, name := range st.Resting {
		text.WriteString(g.renderMessage(fmt.Sprintf("host %s is down for maintenance: 'holdfast up' there brings it back\n", name)))
	}
	if c := st.Change; c != nil {
		text.WriteString(g.renderMessage(fmt.Sprintf("change under way: %s, since %s: %s\n", c.Kind, c.Began.Format(time.TimeOnly), c.At())))
	}
	if r := st.Stopped; r != nil && st.Change == nil {
		first, _, _ := strings.Cut(r.Why, "\n")
		fmt.Fprintf(&text, "the last change (%s, at %s) was stopped: %s\n", r.Kind, r.Ended.Format(time.TimeOnly), quote.Line(first))
		if len(r.Left) > 0 {
			text.WriteString(g.renderMessage(fmt.Sprintf("%s: as that change wanted it, unlike the rest of the stack; 'holdfast apply' makes all what the stack file says\n", strings.Join(r.Left, ", "))))
		}
	}
	text.WriteString(atRunTime(st.RunTime))
	if st.Outdated != "" {
		text.WriteString(g.renderMessage(st.Outdated) + "\n")
	}
	if st.Differs {
		text.WriteString(g.renderMessage("the stack file differs from what runs: 'holdfast apply --plan' shows how, 'holdfast apply' makes it so\n"))
	}
	return text.String()
}

// atRunTime returns a line for each setting that was made at run time. Drained nodes are left out,
// because their rows show it.
func atRunTime(r *supervise.RunTime) string {
	if r == nil {
		return ""
	}
	var text strings.Builder
	for _, app := range slices.Sorted(maps.Keys(r.Nodes)) {
		fmt.Fprintf(&text, "said at run time: %s has %d nodes\n", app, r.Nodes[app])
	}
	for _, app := range slices.Sorted(maps.Keys(r.Programs)) {
		p := r.Programs[app]
		line := fmt.Sprintf("said at run time: %s runs %s", app, strings.Join(p.Command, " "))
		if p.Dir != "" {
			line += " in " + p.Dir
		}
		if len(p.Env) > 0 {
			line += " with the variables " + strings.Join(p.Env, ", ")
		}
		text.WriteString(quote.Line(line) + "\n")
	}
	return text.String()
}

func printStatus(g *globals, w io.Writer, st supervise.Status) error {
	if g.json {
		return json.NewEncoder(w).Encode(st)
	}
	columns := 0
	if terminal(w) {
		// The terminal may wrap the lines. The end of a line has the reason why a node is not up,
		// and must not be cut off.
		columns = math.MaxInt
	}
	fmt.Fprintf(w, "%s: %s\n", st.Stack, g.renderMessage(headline(st)))
	fmt.Fprintf(w, "entry %s", st.Entry)
	if st.Statistics != "" {
		fmt.Fprintf(w, "   statistics %s", st.Statistics)
	}
	fmt.Fprintf(w, "\n%s%s%s%s%s%s\n", serversLine(st), certificateLines(g, st), virtualLines(st), changes(g, st), unserved(st), backupLine(st.Backup))
	table(w, g, st, columns)
	return nil
}

// serversLine returns a line with the server programs of the nodes, the balancers' first.
func serversLine(st supervise.Status) string {
	var all []string
	for _, n := range slices.Backward(st.Nodes) {
		if n.Server != "" && !slices.Contains(all, n.Server) {
			all = append(all, n.Server)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return quote.Line("servers "+strings.Join(all, ", ")) + "\n"
}

// certificateLines returns lines about the certificates that the entries present: until when each is
// valid, and what is wrong with it.
func certificateLines(g *globals, st supervise.Status) string {
	var text strings.Builder
	for _, c := range st.Certificates {
		on := ""
		if c.Host != "" {
			on = " on " + c.Host
		}
		if c.Fingerprint != "" {
			fmt.Fprintf(&text, "certificate %s%s: %s, ends %s (%s)\n", quote.Shell(c.File), on, quote.Line(strings.Join(c.Names, " ")), c.Ends.UTC().Format("2006-01-02 15:04"), until(c.Ends))
		}
		if c.Refused != "" {
			fmt.Fprintf(&text, "certificate %s%s is refused: %s\n", quote.Shell(c.File), on, g.renderMessage(c.Refused))
		}
		if c.Gap != "" {
			fmt.Fprintf(&text, "certificate %s%s: %s\n", quote.Shell(c.File), on, g.renderMessage(c.Gap))
		}
	}
	return text.String()
}

// until returns the time until t in a short form.
func until(t time.Time) string {
	switch left := time.Until(t); {
	case left <= 0:
		return "it has ended"
	case left < 48*time.Hour:
		return fmt.Sprintf("in %dh%02dm", int(left.Hours()), int(left.Minutes())%60)
	default:
		return fmt.Sprintf("in %d days", int(left.Hours()/24))
	}
}

// virtualLines returns a line for each virtual address and the host that has it.
func virtualLines(st supervise.Status) string {
	var text strings.Builder
	for _, v := range st.Virtual {
		switch len(v.Hosts) {
		case 0:
			fmt.Fprintf(&text, "virtual address %s: no host is known to have it\n", v.Address)
		case 1:
			fmt.Fprintf(&text, "virtual address %s: on %s\n", v.Address, v.Hosts[0])
		default:
			fmt.Fprintf(&text, "virtual address %s: on %s at once\n", v.Address, strings.Join(v.Hosts, " and "))
		}
	}
	return text.String()
}

// headline returns the state of the stack in a few words.
func headline(st supervise.Status) string {
	running := 0
	for _, n := range st.Nodes {
		if n.PID != 0 {
			running++
		}
	}
	supervisor := fmt.Sprintf("supervisor %d", st.Supervisor)
	if st.Host != "" {
		supervisor = fmt.Sprintf("host %s leads", st.Host)
	}
	switch {
	case st.Supervisor == 0 && st.Host != "":
		return fmt.Sprintf("host %s, this one, is not up; %d of its %d nodes run. 'holdfast up -d' has it take part again", st.Host, running, len(st.Nodes))
	case st.Supervisor == 0 && running == 0:
		return "down"
	case st.Supervisor == 0:
		return fmt.Sprintf("no supervisor runs; %d of %d nodes do, and nobody watches them: 'holdfast up' adopts them", running, len(st.Nodes))
	case st.Phase == supervise.PhaseStopping:
		return fmt.Sprintf("being taken down (%s)", supervisor)
	case st.Ready:
		return fmt.Sprintf("ready (%s)", supervisor)
	}
	return fmt.Sprintf("not ready (%s)", supervisor)
}

// watchEvery is the time between two looks of a watch.
const watchEvery = 500 * time.Millisecond

// watchStatus shows the status until ctx ends.
func watchStatus(ctx context.Context, g *globals, w io.Writer, every time.Duration, read func(context.Context) (supervise.Status, error)) error {
	live := terminal(w) && !g.json
	drawn, lastJSON := 0, ""
	var last []string
	for {
		st, err := read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var text strings.Builder
		if err := printStatus(g, &text, st); err != nil {
			return err
		}
		switch {
		case live:
			var coloured strings.Builder
			if drawn > 0 {
				fmt.Fprintf(&coloured, lineUp+clearDown, drawn)
			}
			drawn = strings.Count(text.String(), "\n")
			columns := width(w)
			head, _, _ := strings.Cut(text.String(), "NODE")
			for line := range strings.Lines(head) {
				fmt.Fprintln(&coloured, cut(strings.TrimRight(line, "\n"), columns-1))
			}
			table(&coloured, g, st, columns)
			io.WriteString(w, coloured.String())
		case g.json && text.String() != lastJSON:
			lastJSON = text.String()
			io.WriteString(w, lastJSON)
		case !g.json:
			last = printChanges(w, g, st, last)
		}
		if !clock.Sleep(ctx, every) {
			return nil
		}
	}
}

// printChanges prints the lines of a status that were not in the last one, with the time. It
// returns all lines.
func printChanges(w io.Writer, g *globals, st supervise.Status, last []string) (now []string) {
	now = append(now, st.Stack+": "+g.renderMessage(headline(st)))
	for _, n := range st.Nodes {
		line := n.Name + " " + role(n) + " " + string(n.State)
		if n.Restarts > 0 {
			line += fmt.Sprintf(" (restarts: %d)", n.Restarts)
		}
		if why := g.nodeNote(n); why != "" {
			line += ": " + why
		}
		now = append(now, line)
	}
	for line := range strings.Lines(virtualLines(st) + changes(g, st) + unserved(st) + backupLine(st.Backup)) {
		now = append(now, strings.TrimSpace(line))
	}
	for _, line := range now {
		if !slices.Contains(last, line) {
			fmt.Fprintf(w, "%s %s\n", time.Now().Format(time.TimeOnly), line)
		}
	}
	return now
}
