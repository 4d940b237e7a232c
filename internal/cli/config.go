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

	"github.com/spf13/cobra"

	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func configCommand(g *globals) *cobra.Command {
	config := &cobra.Command{
		Use:   "config",
		Short: "Check, show and describe the stack file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	config.AddCommand(configCheckCommand(g), configShowCommand(g), configSchemaCommand())
	return config
}

func configCheckCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Name every mistake in the stack file, and start nothing",
		Long: `Name every mistake in the stack file at once, each with its line, its column and
what would be right; when there is none, also every program, directory and file
that it names and that is not on this machine or cannot be used. Of a stack of
several hosts it says what the loss of each would end, and of a stack of this machine
alone which of the servers that it needs are missing here, too old, or were not
tested with this version. Exit code 0: no mistake; 2: some. Warnings are no mistakes. A FILE of "-" is standard input.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			named := *g
			if len(args) == 1 {
				file, err := expandHome(args[0], g.getenv)
				if err != nil {
					return err
				}
				if g.file != "" && g.file != file {
					return usagef("%s and --file %s: name one stack file", file, g.file)
				}
				named.file = file
			}
			return checkConfig(cmd.Context(), &named, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// checked is what "config check --json" prints.
type checked struct {
	File     string    `json:"file"` // empty: the built-in default stack
	OK       bool      `json:"ok"`
	Mistakes []mistake `json:"mistakes"`
	Warnings []mistake `json:"warnings"`
	// Losses are what the loss of each host would end; see plan.Losses.
	Losses []plan.Loss `json:"losses,omitempty"`
	// Servers are server programs of this machine that will not do, or that were not tested. A
	// stack with hosts has none here, because its programs are elsewhere.
	Servers []supervise.ServerHere `json:"servers,omitempty"`
}

// mistake is one mistake or warning. Line and Column count from 1, and are 0 for the file as a
// whole.
type mistake struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	What   string `json:"what"`
}

func mistakes(in []stack.Mistake) []mistake {
	out := []mistake{} // in JSON a list, not null
	for _, m := range in {
		out = append(out, mistake{m.Line, m.Column, m.What})
	}
	return out
}

func checkConfig(ctx context.Context, g *globals, stdout, stderr io.Writer) error {
	file, data, err := readConfig(g)
	if err != nil {
		return err
	}

	name := file
	switch file {
	case "":
		name = "the built-in default stack"
	case "-":
		name = "standard input"
	}

	s, warnings, err := stack.Parse(name, data)
	var found stack.Mistakes
	if err != nil && !errors.As(err, &found) {
		return err
	}

	var losses []plan.Loss
	var programs []supervise.ServerHere
	if err == nil {
		if len(s.Hosts) == 0 {
			state, _ := stateDir(g, s.Name) // if this fails there is no data, either
			programs = slices.DeleteFunc(supervise.ServersHere(ctx, s, state), func(here supervise.ServerHere) bool { return here.Wrong == "" && here.Untested == "" })
		}
		if found, err = missing(g, s, file, name, data); err != nil {
			return err
		}
		for _, a := range advice(g, s, file) {
			warnings = stack.Warnings(stack.Mistakes(warnings).With(a.Reference.Mistake(name, data, a.Err.Error())))
		}
		var more stack.Mistakes
		if losses, more, err = hostsOf(s, name, data); err != nil {
			return err
		}
		warnings = stack.Warnings(stack.Mistakes(warnings).With(more...))
	}

	if g.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(checked{file, len(found) == 0, mistakes(found), mistakes(warnings), losses, programs}); err != nil {
			return err
		}
		if len(found) > 0 {
			return usageError{errReported}
		}
		return nil
	}

	for _, here := range programs {
		fmt.Fprintf(stderr, "warning: %s\n", g.renderMessage(cmp.Or(here.Wrong, here.Untested)))
	}

	for _, w := range warnings {
		fmt.Fprintf(stderr, "warning: %s\n", g.renderMessage(w.Error()))
	}

	if len(found) > 0 {
		fmt.Fprintln(stderr, g.renderMessage(found.Error()))
		fmt.Fprintf(stderr, "%s: %s\n", quote.Line(name), count(len(found), "mistake"))
		return usageError{errReported}
	}

	_, err = fmt.Fprintf(stdout, "%s: ok (%s)\n", quote.Line(name), outline(s))
	return err
}

// missing returns the mistakes in what a stack names on the disk of this machine.
func missing(g *globals, s stack.Stack, file, name string, data []byte) (stack.Mistakes, error) {
	base, err := baseDir(file)
	if err != nil {
		return nil, err
	}
	var found stack.Mistakes
	for _, e := range supervise.CheckReferences(s, base, g.getenv("PATH")) {
		found = found.With(e.Reference.Mistake(name, data, e.Err.Error()))
	}
	return found, nil
}

// advice returns the warnings about what a stack names on the disk of this machine.
func advice(g *globals, s stack.Stack, file string) []supervise.ReferenceError {
	base, err := baseDir(file)
	if err != nil {
		return nil // reported elsewhere
	}
	return supervise.AdviseCertificates(s, base)
}

// hostsOf returns what the loss of each host would end, and all warnings about the hosts of the
// stack file with that name and content.
func hostsOf(s stack.Stack, name string, data []byte) (losses []plan.Loss, said stack.Mistakes, err error) {
	placed, err := plan.Spread(s, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range plan.Shape(s, placed) {
		said = append(said, stack.MistakeAt(name, data, a.Key, a.Key+": "+a.What))
	}
	losses = plan.Losses(s, placed)
	for _, l := range losses {
		said = append(said, stack.MistakeAt(name, data, "hosts."+l.Host, "hosts: "+l.String()))
	}
	return losses, said, nil
}

// baseDir returns the absolute path of the directory that relative paths in a stack file start
// from: the file's own directory, or, for standard input and the built-in stack, the working
// directory.
func baseDir(file string) (string, error) {
	if file == "" || file == "-" {
		file = "."
	} else {
		file = filepath.Dir(file)
	}
	dir, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("find the directory of the stack file: %w", err)
	}
	return dir, nil
}

// readConfig reads the stack file. file and data are empty for the built-in default stack.
func readConfig(g *globals) (file string, data []byte, err error) {
	file = g.file
	if file == "-" {
		data, err = io.ReadAll(g.stdin)
		if err != nil {
			return "", nil, fmt.Errorf("read the stack file from standard input: %w", err)
		}
		return file, data, nil
	}
	if file = stackFile(file); file == "" {
		return "", nil, nil
	}
	data, err = os.ReadFile(file)
	if err != nil {
		return "", nil, usagef("read the stack file: %w", err)
	}
	return file, data, nil
}

// outline returns a stack in one line: "2 balancers, web × 2, redis × 3, 3 Sentinels".
func outline(s stack.Stack) string {
	var parts []string
	if len(s.Hosts) > 0 {
		parts = append(parts, count(len(s.Hosts), "host"))
	}
	parts = append(parts, count(s.Balancers, "balancer"))
	for _, name := range s.AppNames() {
		app := s.Apps[name]
		n := app.Nodes
		if app.Kind() == stack.Servers {
			n = len(app.Servers)
		}
		parts = append(parts, fmt.Sprintf("%s × %d", name, n))
	}
	if s.Redis.Enabled {
		parts = append(parts, fmt.Sprintf("redis × %d", 1+s.Redis.Replicas), count(s.Redis.Sentinels, "Sentinel"))
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func configShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the stack file with every default filled in",
		Long: `Print the stack with every default filled in and every key explained, as a stack
file: a start for one of your own.

  holdfast config show > holdfast.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := loadStack(g)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(s.Show())
			return err
		},
	}
}

func configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of the stack file, for editors",
		Long: `Print a JSON Schema (draft 2020-12) of the stack file. With the YAML language
server, which most editors have, write it beside the stack file and begin that with

  # yaml-language-server: $schema=holdfast.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(stack.Schema())
			return err
		},
	}
}
