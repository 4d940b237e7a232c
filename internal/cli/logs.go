package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func logsCommand(g *globals) *cobra.Command {
	var follow bool
	var lines int
	c := &cobra.Command{
		Use:   "logs [NODE]",
		Short: "Show the logs of all nodes, merged by time, or of one",
		Long: `Show the logs: of all nodes and the supervisor, merged by the time that their
lines carry, or of one node ("supervisor" is one here).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 {
				return usagef("--lines %d: give a number of lines, 0 for all", lines)
			}
			return showLogs(cmd.Context(), g, cmd.OutOrStdout(), args, follow, lines)
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return append(nodeNames(cmd.Context(), g), "supervisor"), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing new lines until Ctrl-C")
	c.Flags().IntVarP(&lines, "lines", "n", 100, "how many lines of each log to begin with; 0: all")
	return c
}

func showLogs(ctx context.Context, g *globals, w io.Writer, args []string, follow bool, lines int) error {
	s, _, state, err := locate(g)
	if err != nil {
		return err
	}
	pattern := "*"
	if len(args) == 1 {
		if pattern = args[0]; strings.ContainsAny(pattern, `*?[\/`) {
			return usagef("no node is called %q", pattern)
		}
	}
	var tails []*tail
	width := 0
	open := func() error {
		files, err := filepath.Glob(filepath.Join(state, "logs", pattern+".log"))
		if err != nil {
			return err
		}
		for _, f := range files {
			if !slices.ContainsFunc(tails, func(t *tail) bool { return t.path == f }) {
				node := strings.TrimSuffix(filepath.Base(f), ".log")
				tails = append(tails, &tail{path: f, node: node})
				width = max(width, len(node))
			}
		}
		return nil
	}
	if err := open(); err != nil {
		return err
	}
	if len(tails) == 0 && !follow {
		if len(args) == 1 {
			return usagef("no log of a node %q in %s", args[0], filepath.Join(state, "logs"))
		}
		return fmt.Errorf("no logs in %s: the stack %s has not run yet", state, s.Name)
	}
	first := true
	for {
		var all []entry
		for _, t := range tails {
			entries, err := t.read()
			if err != nil {
				return err
			}
			if first && lines > 0 {
				entries = entries[max(len(entries)-lines, 0):]
			}
			all = append(all, entries...)
		}
		first = false
		slices.SortStableFunc(all, func(a, b entry) int { return a.when.Compare(b.when) })
		for _, e := range all {
			if len(args) == 0 {
				fmt.Fprintf(w, "%-*s | ", width, e.node)
			}
			fmt.Fprintln(w, e.line)
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if err := open(); err != nil {
			return err
		}
	}
}

// entry is one line of a log.
type entry struct {
	node, line string
	when       time.Time
}

// tail reads what is new in a log file.
type tail struct {
	path, node string
	offset     int64
	last       time.Time // a line without a time has that of the line before
}

func (t *tail) read() ([]entry, error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.Size() < t.offset { // it was rotated
		t.offset = 0
	}
	if _, err := f.Seek(t.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var entries []entry
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadString('\n')
		if err != nil { // what has no end yet is read the next time
			return entries, nil
		}
		t.offset += int64(len(line))
		line = strings.TrimRight(line, "\r\n")
		if when, ok := lineTime(line); ok {
			t.last = when
		}
		entries = append(entries, entry{t.node, line, t.last})
	}
}

// timeFormats are how the servers write times: Redis, HAProxy (section 8.2.3
// of its manual, %tr), slog.
var timeFormats = []struct {
	pattern *regexp.Regexp
	layout  string
}{
	{regexp.MustCompile(`^\d+:[A-Z] (\d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2}\.\d{3}) `), "02 Jan 2006 15:04:05.000"},
	{regexp.MustCompile(`\[(\d{2}/\w{3}/\d{4}:\d{2}:\d{2}:\d{2}\.\d{3})\]`), "02/Jan/2006:15:04:05.000"},
	{regexp.MustCompile(`time=(\S+)`), time.RFC3339Nano},
}

func lineTime(line string) (time.Time, bool) {
	for _, f := range timeFormats {
		if m := f.pattern.FindStringSubmatch(line); m != nil {
			if t, err := time.ParseInLocation(f.layout, m[1], time.Local); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}
