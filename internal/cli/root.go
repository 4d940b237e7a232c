// Package cli is the command line. Each subcommand has a file of its own with its flags, its wiring
// and its output.
//
// Main runs the program: it builds the command tree (newRoot), runs one command, and maps its error
// to an exit code. Most commands find the stack file and the state directory (locate.go), ask the
// supervisor through package control, and print the answer (show.go, status.go). The long-running
// commands are processes themselves: up.go is the supervisor on one machine, hostrun.go a host's
// process in a stack of several hosts, pod.go a pod, and web.go a web node.
//
// The work is done by the packages below. Only this package reads the environment.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/internal/private"
	"holdfast/internal/process"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// globals are the flags and the environment that every subcommand shares.
type globals struct {
	file  string // -f: the stack file; empty: the built-in default stack
	state string // --state: the stack's state directory; empty: the default
	json  bool   // --json: print state for programs
	self  string // how this program was called, for the commands in its messages
	// background is true in the background half of up -d.
	background bool
	// mistakes is the error of the stack file if a command uses what runs instead; nil: the file is
	// valid.
	mistakes error
	// keptPages are the files of pages in whose place a command uses the pages of before, because
	// the files are missing or broken.
	keptPages []*supervise.ReferenceError
	// loaded is the stack file after it was read; nil: not yet. It is read only once, because a
	// pipe (-f <(...), -f /dev/stdin) cannot be read twice.
	loaded *loaded
	// logs is where the supervisor and the nodes log with --log-format json; nil: only to their
	// files.
	logs *jsonLog
	// contained is true where the nodes end with this process, as in a container.
	contained bool

	getenv func(string) string
	stdin  io.Reader
	stderr io.Writer
}

// usageError is a mistake in the user's input: exit code 2, and nothing has started.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef returns a usage error.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// Main runs the program and returns its exit code. SIGINT and SIGTERM end the context of the
// command; the command decides what a second signal means.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	g := newGlobals(stdin, stderr, getenv)
	err := process.KeepInheritedFiles()
	if err == nil {
		err = g.run(ctx, args, stdout)
	}
	if err == nil {
		return exitDone
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(stderr, "holdfast: %s\n", g.renderMessage(err.Error()))
	}
	var status exitError
	if errors.As(err, &status) {
		return int(status)
	}
	var usage usageError
	var open *private.Error
	if errors.As(err, &usage) || errors.As(err, &open) {
		return exitUsage
	}
	return exitFailed
}

// errReported is the error of a command that has already shown what failed.
var errReported = errors.New("failed")

// Run runs one command line until it is done or ctx ends. Its error is a usageError for a mistake
// in the arguments or in the stack file.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) error {
	return newGlobals(stdin, stderr, getenv).run(ctx, args, stdout)
}

func newGlobals(stdin io.Reader, stderr io.Writer, getenv func(string) string) *globals {
	return &globals{self: os.Args[0], getenv: getenv, stdin: stdin, stderr: stderr}
}

func (g *globals) run(ctx context.Context, args []string, stdout io.Writer) error {
	root := newRoot(g)
	root.SetArgs(args)
	root.SetIn(g.stdin)
	root.SetOut(stdout)
	root.SetErr(g.stderr)
	return root.ExecuteContext(ctx)
}

func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "A highly available web application: HAProxy, web nodes, replicated Redis",
		Long: `Holdfast stands up a highly available web application with the real HAProxy
and the real Redis, keeps it up, and lets you operate it node by node.

  holdfast up          stand the stack up (Ctrl-C takes it down)
  holdfast status      look at it
  holdfast down        take it down; data stays
  holdfast host add    let another machine be a part of it

Without a stack file it runs the built-in default stack: two balancers on
127.0.0.1:6301, two web nodes, a Redis master with two replicas, three Sentinels.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}

	flags := root.PersistentFlags()
	pathVar(flags, &g.state, g.getenv, "state", "", "state `DIR` of the stack (default $XDG_STATE_HOME/holdfast/NAME, else ~/.local/state/holdfast/NAME)")
	flags.BoolVar(&g.json, "json", false, "print state as JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w\nSee '%s --help'.", err, cmd.CommandPath())
	})
	onStack := append([]*cobra.Command{
		upCommand(g), downCommand(g), statusCommand(g), logsCommand(g),
		configCommand(g), planCommand(g), applyCommand(g), rolloutCommand(g), scaleCommand(g), upgradeCommand(g), drillCommand(g), switchoverCommand(g), doctorCommand(g), backupCommand(g), restoreCommand(g), serviceCommand(g), hostCommand(g), pushCommand(g), exportCommand(g), podCommand(g),
	}, append(nodeCommands(g), drainCommands(g)...)...)
	for _, c := range onStack {
		fileFlag(g, c)
	}

	root.AddCommand(onStack...)
	root.AddCommand(versionCommand(g), joinCommand(g), webCommand(g.getenv), filesCommand(g.getenv), tokenCommand(g), logWriterCommand(g), fenceGuardCommand(g), balancerAliveCommand(), releasesCommand())
	for _, c := range root.Commands() {
		usageArgs(c)
	}
	return root
}

// fileFlag adds the flag for the stack file to a command and its subcommands. It is not a
// persistent flag, because -f means --follow in 'logs'.
func fileFlag(g *globals, c *cobra.Command) {
	short := "f"
	if c.Flags().ShorthandLookup(short) != nil {
		short = ""
	}
	pathVar(c.Flags(), &g.file, g.getenv, "file", short, "stack `FILE`; without it, ./holdfast.yaml if there is one, else the built-in default stack")
	for _, sub := range c.Commands() {
		fileFlag(g, sub)
	}
}

// usageArgs turns cobra's errors about wrong arguments into usage errors, for a command and its
// subcommands.
func usageArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%s: %w\nSee '%s --help'.", cmd.CommandPath(), err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageArgs(sub)
	}
}

// defaultFile is the stack file that is read if the user names none.
const defaultFile = "holdfast.yaml"

// stackFile returns the path of the stack file: the named one, or else the default file if it
// exists. It returns "" for the built-in stack.
func stackFile(named string) string {
	if _, err := os.Stat(defaultFile); named == "" && err == nil {
		return defaultFile
	}
	return named
}

// loaded is the result of reading the stack file.
type loaded struct {
	stack   stack.Stack
	baseDir string
	err     error
}

// loadStack returns the declared stack and the absolute directory that its relative paths start
// from. It reads the file on the first call only, and writes warnings to stderr.
func loadStack(g *globals) (stack.Stack, string, error) {
	if g.loaded == nil {
		l := &loaded{}
		l.stack, l.baseDir, l.err = readStack(g)
		g.loaded = l
	}
	return g.loaded.stack, g.loaded.baseDir, g.loaded.err
}

// readStack is loadStack without the cache.
func readStack(g *globals) (stack.Stack, string, error) {
	file := stackFile(g.file)
	dir, err := baseDir(file)
	if err != nil {
		return stack.Stack{}, "", err
	}
	if file == "" {
		return stack.Default(), dir, nil
	}

	data, err := os.ReadFile(file)
	if err != nil {
		return stack.Stack{}, "", usagef("read the stack file: %w", err)
	}
	if len(data) == 0 && wasRead(file) {
		return stack.Stack{}, "", usagef("read the stack file: there is nothing to read in %s. A pipe can be read once: what goes on in the background, or hands over to another version, needs a regular file", file)
	}

	s, warnings, err := stack.Parse(file, data)
	if err != nil {
		return stack.Stack{}, "", usageError{&mistakenFile{error: err, name: stack.NameIn(data)}}
	}

	s, wrong := supervise.WithPages(s, dir)
	var mistakes stack.Mistakes
	for _, e := range wrong {
		mistakes = mistakes.With(e.Reference.Mistake(file, data, e.Err.Error()))
	}

	if len(mistakes) > 0 {
		return stack.Stack{}, "", usageError{&mistakenFile{mistakes, s.Name, wrong, s, dir}}
	}

	for _, w := range warnings {
		fmt.Fprintf(g.stderr, "warning: %s\n", g.renderMessage(w.Error()))
	}

	if who := private.Warning(file); who != "" {
		fmt.Fprintf(g.stderr, "warning: %s, and so choose what runs: chmod go-w it, or own it\n", g.renderMessage(who))
	}
	return s, dir, nil
}

// wasRead reports whether an empty stack file may be a pipe, say, that was read already. /dev/null
// is empty on purpose.
func wasRead(file string) bool {
	info, err := os.Stat(file)
	return err == nil && !info.Mode().IsRegular() && filepath.Clean(file) != os.DevNull
}
