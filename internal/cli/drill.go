package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"holdfast/internal/drill"
	"holdfast/internal/drill/report"
	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func drillCommand(g *globals) *cobra.Command {
	var list bool
	var tokenFile, out string
	var urls []string
	var inPods podDrill
	cfg := drill.Config{}
	c := &cobra.Command{
		Use:   "drill [FAULT...]",
		Short: "Break the stack under load, and check every answer",
		Long: `Break the stack under load, and check every answer. Clients write to and read
from the running stack through its entry, at a fixed rate; meanwhile each FAULT is
brought about, proved to have happened, and undone. Then every key is read back,
and everything that the clients saw is judged: is an acknowledged write missing,
was an old value read, was anything done twice, what failed, how long did a client
wait? Without a FAULT it is the standard course, which takes four to six minutes.

The load is on an application of kind kv, which --app names where there are several;
no route has to lead to it. With --url it is requests for URLs of your own instead,
also on a stack without a kv: availability and latency alone are judged then, and no
consistency. A fault strikes what is under load just then; one that finds nothing at
work makes the drill inconclusive. What there cannot be is refused (exit code 2).

The drill uses keys of its own, and removes them. What it broke is undone however
it ends, by Ctrl-C or by kill -9, too. Faults that need hosts of their own (network
namespaces) or disks get a stack of their own, beside the running one; that needs
root and Linux.

A stack of several hosts is drilled from any of them. Faults of its processes strike nodes of
every host, and cuts are cuts between its hosts, which end by themselves; those that lose a
host get a stack beside it, as everywhere.

A stack in Kubernetes is drilled from any machine whose kubectl reaches the cluster:
--kubernetes says in which namespace it is, and --entry at which URL this machine
reaches it. The faults are what happens to pods there, and have names of their own.

Exit code 0: the stack holds. 1: it does not, or the drill could not judge. The
report, a page to open in a browser, and the history are in the stack's state
directory, below drills, or in --out.`,
		Example: `  holdfast drill                          # the standard course
  holdfast drill kill-master              # one fault
  holdfast drill --app store              # of several applications of kind kv
  holdfast drill --url /cart --url "POST /orders 201"
  holdfast drill cut-master               # between the stack's hosts, or three of its own
  holdfast drill --hosts 3 kill-master    # likewise
  holdfast drill --kubernetes shop --entry http://192.0.2.1:30063
  holdfast drill --fault-command "./cut-the-network.sh 10s"
  holdfast drill --random --seed 7 --for 2m
  holdfast drill --repeat 10              # each single fault ten times`,
		RunE: func(cmd *cobra.Command, args []string) error {
			stdout := cmd.OutOrStdout()
			if list {
				return listFaults(g, stdout)
			}
			cfg.Faults = args
			if err := drillFlags(g, cmd, &cfg, tokenFile, urls); err != nil {
				return err
			}
			if err := inPods.locate(g, cmd, &cfg); err != nil {
				return err
			}
			if err := asUsage(cfg.Check()); err != nil {
				return err
			}
			return runDrill(cmd.Context(), g, cfg, out, stdout, cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, f := range drill.List() {
				names = append(names, f.Name+"\t"+f.About)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}

	flags := c.Flags()
	flags.BoolVar(&list, "list", false, "explain every fault, and break nothing")
	flags.BoolVar(&cfg.Own, "own", false, "stand a stack up for the drill, as the stack file declares it, and drill that")
	flags.IntVar(&cfg.Hosts, "hosts", 0, "`NUMBER` of hosts of the drill's own to stand that stack up on (default those of the stack file)")
	flags.BoolVar(&cfg.Random, "random", false, "draw the faults, of those given or of all, by the seed")
	flags.DurationVar(&cfg.For, "for", 2*time.Minute, "about how long a random schedule takes")
	flags.Int64Var(&cfg.Seed, "seed", 1, "of which nodes are struck, of the load and of a random schedule")
	flags.IntVar(&cfg.Repeat, "repeat", 0, "`ROUNDS` of the faults given, or of all single ones: each a drill by itself; what holds is not kept")
	flags.IntVar(&cfg.Mix.Rate, "rate", 0, "operations per second (default 400, of URLs 100)")
	flags.IntVar(&cfg.Mix.Clients, "clients", 0, "clients at once (default 40, of URLs 20)")
	flags.IntVar(&cfg.Mix.Keys, "keys", 0, "keys of each kind (default 12, or 3 for each 100 of --rate)")
	flags.StringVar(&cfg.App, "app", "", "`NAME` of the application of kind kv to drill, whatever the routes are (default the only one, or the one that the last route leads to)")
	flags.StringArrayVar(&urls, "url", nil, "load this `URL` instead, for availability and latency alone: \"/cart\", \"POST /orders 201\", \"http://shop.example/\" for a route by host; may be repeated")
	pathVar(flags, &tokenFile, g.getenv, "token-file", "", "`FILE` with the token that the entry asks for")
	pathVar(flags, &out, g.getenv, "out", "", "`DIR` for report and history")
	flags.StringArrayVar(&cfg.Commands, "fault-command", nil, "a fault of your own: a `COMMAND` for a shell that breaks something, mends it and ends; may be repeated")
	inPods.flags(flags, g)
	c.AddCommand(drillCheckCommand(g), drillUndoCommand(g))
	return c
}

// drillFlags checks the flags, and fills in what they leave open.
func drillFlags(g *globals, cmd *cobra.Command, cfg *drill.Config, tokenFile string, urls []string) error {
	for _, name := range []string{"rate", "clients", "keys", "repeat", "hosts"} {
		if f := cmd.Flags().Lookup(name); f.Changed {
			if n, _ := cmd.Flags().GetInt(name); n < 1 {
				return usagef("--%s %d: it has to be 1 at least", name, n)
			}
		}
	}

	for _, text := range urls {
		u, err := load.ParseURL(text)
		if err != nil {
			return usagef("--url %w", err)
		}
		cfg.URLs = append(cfg.URLs, u)
	}

	for _, name := range []string{"app", "keys"} {
		if len(urls) > 0 && cmd.Flags().Changed(name) {
			return usagef("--%s is for the load on an application of kind kv, and --url is another load: leave one of them out", name)
		}
	}

	if cfg.For <= 0 {
		return usagef("--for %v: it has to be longer than 0", cfg.For)
	}
	if cmd.Flags().Changed("for") && !cfg.Random {
		return usagef("--for is for --random: without it, each fault given runs once")
	}

	if tokenFile != "" {
		b, err := os.ReadFile(tokenFile)
		if err != nil {
			return usagef("read the token: %w", err)
		}
		cfg.Mix.Token = strings.TrimSpace(string(b))
		if cfg.TokenFile, err = filepath.Abs(tokenFile); err != nil {
			return err
		}
	}

	cfg.Called = g.self
	var err error
	if cfg.Self, err = os.Executable(); err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	return nil
}

// locateDrilled finds the stack to drill, which runs already or is started for the drill.
func locateDrilled(g *globals, cfg *drill.Config) (err error) {
	if cfg.Stack, cfg.Base, cfg.State, err = locate(g); err != nil {
		return err
	}
	cfg.Several = isJoined(cfg.State)
	if !cfg.OnItsOwn() && len(cfg.Stack.Hosts) > 0 && !cfg.Several {
		return usagef("the stack file has hosts, and this machine is none of them: run it at one, or 'holdfast drill --own' stands the same stack up in network namespaces of this machine")
	}
	if last, base, known := supervise.LastFile(cfg.State); known && cfg.Several && !cfg.OnItsOwn() {
		cfg.Stack, cfg.Base = last, base // the stack that runs, not the file at hand
	}
	cfg.File = stackFile(g.file)
	cfg.Args = []string{"--state", cfg.State}
	if cfg.File != "" {
		if cfg.File, err = filepath.Abs(cfg.File); err != nil {
			return err
		}
		cfg.Args = append(cfg.Args, "--file", cfg.File)
	}
	cfg.Text = ownText(cfg.Stack, cfg.Base)
	return nil
}

// asUsage turns what a drill refuses before it starts anything into a usage error.
func asUsage(err error) error {
	var unknown *drill.UnknownFaultError
	var rights *drill.RightsError
	var mix *drill.MixError
	var refused *drill.RefusedError
	if errors.As(err, &unknown) || errors.As(err, &rights) || errors.As(err, &mix) || errors.As(err, &refused) {
		return usageError{err}
	}
	return err
}

// ownText returns a stack file for a stack like this one that can run beside it: without its name,
// its entry, its hosts and its fixed ports.
func ownText(s stack.Stack, base string) string {
	absolute := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(base, path)
	}

	s.TCP, s.Redis.Ports, s.Redis.SentinelPorts = nil, nil, nil
	apps := map[string]stack.App{}
	for name, a := range s.Apps {
		a.Ports, a.Files = nil, absolute(a.Files)
		if a.KV != nil {
			kv := *a.KV
			kv.TokensFile = absolute(kv.TokensFile)
			a.KV = &kv
		}
		if a.Kind() == stack.Command {
			a.Dir = filepath.Clean(cmp.Or(absolute(a.Dir), base))
			if strings.Contains(a.Command[0], "/") { // otherwise it is looked up on PATH
				a.Command = slices.Clone(a.Command)
				a.Command[0] = absolute(a.Command[0])
			}
		}
		apps[name] = a
	}

	s.Apps = apps
	var text strings.Builder
	skip := false
	for line := range strings.Lines(string(s.Show())) {
		if line[0] != ' ' && line[0] != '\n' && line[0] != '#' { // a key at the top level
			skip = slices.ContainsFunc([]string{"name:", "entry:", "hosts:"}, func(key string) bool { return strings.HasPrefix(line, key) })
		}
		if !skip && line[0] != '#' {
			text.WriteString(line)
		}
	}
	return text.String()
}

// runDrill runs a drill, shows its progress, and prints the result.
func runDrill(ctx context.Context, g *globals, cfg drill.Config, out string, stdout, stderr io.Writer) error {
	if out == "" {
		out = filepath.Join(cfg.State, "drills")
	} else {
		removeDirs, err := prepareOut(out)
		if err != nil {
			return err
		}
		defer removeDirs()
	}

	live := report.NewLive(stderr, terminal(stderr), func() int { return width(stderr) })
	cfg.Show, cfg.Note = showDrill(live), live.Note
	campaign := drill.NewCampaign()
	held := true
	var trouble error
	cfg.Done = func(h history.History, v history.Verdict) {
		h.Holdfast = version
		held = held && v.Result == history.Holds
		campaign.Add(h, v)
		dir := ""
		if cfg.Repeat == 0 || v.Result != history.Holds {
			dir = filepath.Join(out, h.ID)
			if err := writeResults(dir, h, v); err != nil {
				trouble = errors.Join(trouble, err)
				dir = ""
			}
		}
		if cfg.Repeat > 0 {
			live.Note(campaign.Line(h, v))
			if dir != "" {
				live.Note("  " + filepath.Join(dir, reportFile))
			}
			return
		}
		live.End()
		trouble = errors.Join(trouble, printDrill(g, stdout, h, v))
		if dir != "" && !g.json {
			fmt.Fprintf(stdout, "\nreport   %s\nhistory  %s\n", filepath.Join(dir, reportFile), filepath.Join(dir, historyFile))
		}
	}

	err := asUsage(drill.Run(ctx, cfg))
	live.End()
	if cfg.Repeat > 0 && campaign.Drills() > 0 {
		if g.json {
			trouble = errors.Join(trouble, json.NewEncoder(stdout).Encode(campaign.Summary()))
		} else {
			trouble = errors.Join(trouble, campaign.Text(stdout))
		}
	}

	if errors.Is(err, drill.ErrNotRunning) {
		return fmt.Errorf("the stack %s does not run: stand it up with 'holdfast up -d', or let the drill have a stack of its own with --own", cfg.Stack.Name)
	}
	if errors.Is(err, context.Canceled) && !errors.Is(err, drill.ErrNotUndone) {
		return errors.Join(errors.New("interrupted; what was broken is undone"), trouble)
	}
	if err = errors.Join(err, trouble); err != nil {
		return err
	}
	if !held {
		return errReported
	}
	return nil
}

// prepareOut makes the directory for reports and checks that it is writable, so that this does not
// fail after minutes. removeDirs removes the directories that it made, if they are still empty.
func prepareOut(dir string) (removeDirs func(), err error) {
	var made []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	removeDirs = func() {
		for _, d := range made {
			os.Remove(d)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		removeDirs()
		return nil, usagef("make the directory for reports: %w", err)
	}
	f, err := os.CreateTemp(dir, "try")
	if err != nil {
		removeDirs()
		return nil, usagef("write reports: %w", err)
	}
	return removeDirs, errors.Join(f.Close(), os.Remove(f.Name()))
}

// showDrill shows what a drill reports. Several goroutines call the function that it returns.
func showDrill(live *report.Live) func(drill.Update) {
	var mu sync.Mutex
	phase := ""
	return func(u drill.Update) {
		mu.Lock()
		defer mu.Unlock()
		if u.Words != "" {
			phase = u.Words
		}
		live.Show(report.Progress{
			Elapsed: u.At, Phase: phase, Rate: float64(u.Load.Answers), InFlight: u.Load.InFlight + u.Load.Waiting,
			Longest: u.Load.Longest, Failed: u.Load.Failed, Unknown: u.Load.Unknown,
		})
	}
}

func printDrill(g *globals, w io.Writer, h history.History, v history.Verdict) error {
	if g.json {
		return report.JSON(w, h, v)
	}
	return report.Text(w, h, v, terminal(w))
}

// The files of a drill in its directory.
const (
	reportFile  = "report.html"
	historyFile = "history.jsonl"
)

// writeResults writes the report and the history.
func writeResults(dir string, h history.History, v history.Verdict) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a directory for the report: %w", err)
	}
	write := func(name string, put func(io.Writer) error) error {
		f, err := renameio.NewPendingFile(filepath.Join(dir, name), renameio.WithTempDir(dir), renameio.WithPermissions(0o600))
		if err != nil {
			return err
		}
		defer f.Cleanup()
		if err := put(f); err != nil {
			return err
		}
		return f.CloseAtomicallyReplace()
	}
	return errors.Join(
		write(historyFile, func(w io.Writer) error { return history.Encode(w, h) }),
		write(reportFile, func(w io.Writer) error { return report.HTML(w, h, v) }),
	)
}

// listFaults prints an explanation of every fault.
func listFaults(g *globals, w io.Writer) error {
	all := drill.List()
	if g.json {
		return json.NewEncoder(w).Encode(all)
	}

	longest := len(slices.MaxFunc(all, func(a, b drill.Fault) int { return len(a.Name) - len(b.Name) }).Name)
	inPods := false
	for _, f := range all {
		if f.Kubernetes && !inPods {
			inPods = true // they come last in the list
			if _, err := fmt.Fprint(w, "\nOf a stack in Kubernetes alone (--kubernetes NAMESPACE --entry URL):\n"); err != nil {
				return err
			}
		}
		var marks []string
		for mark, has := range map[string]bool{"standard course": f.Course, "double": f.Double, "hosts": f.Hosts, "disk": f.Disk} {
			if has {
				marks = append(marks, mark)
			}
		}
		slices.Sort(marks)
		note := ""
		if len(marks) > 0 {
			note = " [" + strings.Join(marks, ", ") + "]"
		}
		if _, err := fmt.Fprintf(w, "%-*s  %s%s\n", longest, f.Name, f.About, note); err != nil {
			return err
		}
	}

	_, err := fmt.Fprintln(w, "\nA command of your own is a fault, too (--fault-command).\nhosts, disk: on a stack of the drill's own, with hosts (network namespaces) or disks of its own; needs root on Linux.")
	return err
}
