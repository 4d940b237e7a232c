package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/logs"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// logsOptions is what 'holdfast logs' shows.
type logsOptions struct {
	name   string // of a node or an application; empty: all
	follow bool
	lines  int       // how many earlier lines of each log; 0: all
	since  time.Time // zero: from the beginning
}

func logsCommand(g *globals) *cobra.Command {
	var o logsOptions
	var since string
	c := &cobra.Command{
		Use:   "logs [NODE|APP]",
		Short: "Show the logs of all nodes, merged by time, of an application's, or of one",
		Long: `Show the logs: of all nodes and the supervisor, of all nodes of an application
("redis", "sentinel" and "balancer" are such names, too), or of one node
("supervisor" is one here). Several logs are merged by time.

On several hosts the logs come from all of them; a host that does not answer is named,
and its lines are missing.

The time before a line is when it was read from the node. On a terminal colours
are left out, and other control characters shown instead of obeyed; into a pipe or
a file lines go as they were written.`,
		Example: `  holdfast logs                     the last 100 lines of each log
  holdfast logs web -f              what all nodes of the application web say
  holdfast logs --since 10m         everything of the last ten minutes
  holdfast logs web-1 --since 14:30 of one node, since half past two today`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.lines < 0 {
				return usagef("--lines %d: give a number of lines, 0 for all", o.lines)
			}
			if cmd.Flags().Changed("since") {
				var err error
				if o.since, err = parseSince(since, time.Now()); err != nil {
					return err
				}
				if !cmd.Flags().Changed("lines") {
					o.lines = 0
				}
			}
			if len(args) == 1 {
				o.name = args[0]
			}
			return showLogs(cmd.Context(), g, cmd.OutOrStdout(), o)
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			names := append(nodeNames(cmd.Context(), g), logs.Supervisor)
			if s, _, err := loadStack(g); err == nil {
				names = append(names, s.AppNames()...)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}

	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on showing new lines until Ctrl-C")
	c.Flags().IntVarP(&o.lines, "lines", "n", 100, "how many lines of each log to begin with; 0: all, as with --since")
	c.Flags().StringVar(&since, "since", "", "only lines since a `TIME`, such as 2026-11-28T14:30:00Z, \"2026-11-28 14:30\" or 14:30, or since that long ago, such as 90s, 10m, 3h or 2d")
	return c
}

// sinceLayouts are the forms of a time in --since. A time without a zone is local.
var sinceLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04",
	"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04Z07:00", "2006-01-02 15:04",
	"2006-01-02",
}

// parseSince parses a time, or how long ago it was.
func parseSince(word string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(word, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 100_000 {
			return now.Add(-time.Duration(n * float64(24*time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(word); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range sinceLayouts {
		if t, err := time.ParseInLocation(layout, word, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.ParseInLocation(layout, word, now.Location()); err == nil {
			year, month, day := now.Date()
			return time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), 0, now.Location()), nil
		}
	}
	return time.Time{}, usagef(`--since %q is neither a time, such as 2026-11-28T14:30:00Z, "2026-11-28 14:30" or 14:30, nor how long ago, such as 90s, 10m, 3h or 2d`, word)
}

const (
	followEvery = 200 * time.Millisecond
	// followBehind is how long a line waits before it is shown, so that lines of other nodes with
	// an earlier time can come first.
	followBehind = 100 * time.Millisecond
	// followRemote is the same where other hosts have to send their lines first.
	followRemote = 700 * time.Millisecond
)

func showLogs(ctx context.Context, g *globals, w io.Writer, o logsOptions) error {
	s, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}

	m := &merger{state: state, options: o, terminal: terminal(w), warn: func(text string) { fmt.Fprintf(g.stderr, "%s\n", g.renderMessage(text)) }}
	m.local = logs.NewMerged(state, logs.Query{Name: o.name, Lines: o.lines, Since: o.since})
	defer m.local.Close()
	if err := m.find(); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer m.endRemotes()
	defer cancel()
	m.askOthers(ctx, g)
	if err := m.awaitRemotes(ctx); err != nil {
		return nil
	}
	if m.empty() && !(o.follow && (o.name == "" || belongs(s, o.name))) {
		return m.nothing(s)
	}

	for {
		if err := m.show(w); err != nil || !o.follow {
			return err
		}
		if !clock.Sleep(ctx, followEvery) {
			return nil
		}
		if err := m.find(); err != nil {
			return err
		}
	}
}

// merger shows the lines of several logs, of this host and others, in the order of their times.
type merger struct {
	state   string
	options logsOptions
	local   *logs.Merged
	remotes []*remoteLogs
	self    string // name of this host; empty: there is only one
	width   int    // of the longest node's name
	known   int    // number of logs here
	// terminal is true where a node's output must not control the terminal.
	terminal bool
	warn     func(text string)
}

// find looks for new logs of this host.
func (m *merger) find() error {
	names, err := m.local.Find()
	for _, name := range names {
		m.width = max(m.width, len(name))
	}
	m.known = len(names)
	return err
}

// belongs reports whether the name is that of an application of the stack, or of one of its nodes.
func belongs(s stack.Stack, name string) bool {
	return slices.ContainsFunc(s.AppNames(), func(app string) bool {
		number, isNode := strings.CutPrefix(name, app+"-")
		n, err := strconv.Atoi(number)
		return name == app || isNode && err == nil && n >= 1 && n <= s.Apps[app].Nodes
	})
}

// nothing returns an error on why there is no log to show.
func (m *merger) nothing(s stack.Stack) error {
	all, err := logs.Nodes(m.state)
	if err != nil {
		return err
	}
	for _, r := range m.remotes {
		if r.err != nil {
			return fmt.Errorf("no log here is that of %s, and host %s does not show its own: %w", quote.Text(m.options.name), r.host, r.err)
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("no logs in %s: the stack %s has not run yet", m.state, s.Name)
	}
	if belongs(s, m.options.name) {
		return fmt.Errorf("%s has written nothing yet; how its nodes start and end: 'holdfast logs supervisor'", m.options.name)
	}
	return usagef("no node and no application is called %q; there are logs of %s", m.options.name, strings.Join(all, ", "))
}

// show prints the lines there are, in order. While it follows, it leaves the last moment for the
// next call.
func (m *merger) show(w io.Writer) error {
	now, behind := time.Now(), followBehind
	if len(m.remotes) > 0 {
		behind = followRemote
	}
	for {
		first, take, err := m.next()
		if err != nil || take == nil {
			return err
		}
		if age := now.Sub(first.Time); m.options.follow && age < behind && age > -time.Second {
			return nil
		}
		take()
		if err := m.print(w, first); err != nil {
			return err
		}
	}
}

// next returns the next line of all hosts, and a function that removes it; nil: there is no line
// yet.
func (m *merger) next() (first logs.Entry, take func(), err error) {
	e, there, err := m.local.Peek()
	if err != nil {
		return first, nil, err
	}
	if there {
		first, take = m.named(e, m.self), func() { _, _, _ = m.local.Next() }
	}
	for _, r := range m.remotes {
		if e, there := r.peek(); there && (take == nil || e.Time.Before(first.Time)) {
			first, take = m.named(e, r.host), r.take
		}
	}
	return first, take, nil
}

// named adds the host's name to a log that every host has.
func (m *merger) named(e logs.Entry, host string) logs.Entry {
	if host != "" && (e.Node == logs.Supervisor || e.Node == supervise.LogWriterCommand) {
		e.Node += "@" + host
	}
	m.width = max(m.width, len(e.Node))
	return e
}

// stampShown is the format of the time before a line: RFC 3339, in local time.
const stampShown = "2006-01-02T15:04:05.000000Z07:00"

func (m *merger) print(w io.Writer, e logs.Entry) error {
	line := e.Line
	if m.terminal {
		e.Node, line = quote.Text(e.Node), quote.Log(line) // into a pipe or a file it goes unchanged
	}
	if e.Stamped {
		line = e.Time.Local().Format(stampShown) + " " + line
	}
	if m.options.name != e.Node {
		line = fmt.Sprintf("%-*s | %s", m.width, e.Node, line)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
