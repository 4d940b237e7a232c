package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func rolloutCommand(g *globals) *cobra.Command {
	var r supervise.Rollout
	var command string
	var env []string
	var history bool
	c := &cobra.Command{
		Use:   "rollout APP",
		Short: "Bring a new version of your program, one node at a time",
		Long: `Bring a new version of a program of your own (kind command) to its nodes, one
after the other, without a failed request. With apps.APP.release its files are
copied first, and the nodes run from the copy; else they are started anew where
the files lie.

The next node follows when the last one is in rotation and was well for
rollout.settle. The first that does not become well, or dies within that time,
stops the rollout: all nodes run the version before again, and its last words are
shown (exit code 1).

  holdfast rollout shop                       the files as they are now
  holdfast rollout shop --env LEVEL=debug     other settings, until the file changes them
  holdfast rollout shop --only 1              one node; then look, and
  holdfast rollout shop --continue            go on, or
  holdfast rollout shop --undo                back to the version before`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.App = args[0]
			if history {
				return showVersions(g, cmd.OutOrStdout(), r.App)
			}
			if err := rolloutFlags(cmd, &r, command, env); err != nil {
				return err
			}
			kind := "rollout"
			if r.Undo {
				kind = "undo"
			}
			return carryOut(cmd.Context(), g, supervise.Request{Kind: kind, Rollout: &r}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return appNames(g, len(args) == 0, stack.Command), cobra.ShellCompDirectiveNoFileComp
		},
	}

	f := c.Flags()
	f.StringVar(&command, "command", "", "another command `LINE`: words with blanks between them, or a JSON list")
	f.StringArrayVar(&env, "env", nil, "another value of a variable, `NAME=VALUE`; may be given several times")
	f.StringVar(&r.Dir, "dir", "", "another working `DIR`; relative to the release, else to the stack file")
	f.IntVar(&r.Only, "only", 0, "wait after `N` nodes, for --continue or --undo")
	f.BoolVar(&r.Continue, "continue", false, "go on with a rollout that waits")
	f.BoolVar(&r.Undo, "undo", false, "go back to the version before")
	f.BoolVar(&history, "history", false, "show what ran when, and do nothing")
	c.MarkFlagsMutuallyExclusive("undo", "continue", "history", "only")
	return c
}

// rolloutFlags fills in a rollout from the flags.
func rolloutFlags(cmd *cobra.Command, r *supervise.Rollout, command string, env []string) (err error) {
	for _, name := range []string{"command", "dir"} {
		if f := cmd.Flags().Lookup(name); f.Changed && strings.TrimSpace(f.Value.String()) == "" {
			return usagef("--%s is empty", name)
		}
	}
	if cmd.Flags().Changed("only") && r.Only < 1 {
		return usagef("--only %d: write how many nodes get the new version first", r.Only)
	}
	if r.Command, err = commandWords(command); err != nil {
		return err
	}
	for _, v := range env {
		name, value, found := strings.Cut(v, "=")
		if !found || name == "" {
			return usagef("--env %s is not NAME=VALUE", quote.Shell(v))
		}
		if r.Env == nil {
			r.Env = map[string]string{}
		}
		r.Env[name] = value
	}
	if (r.Undo || r.Continue) && (len(r.Command) > 0 || r.Dir != "" || len(r.Env) > 0) {
		return usagef("--undo and --continue decide about a version that is there: leave --command, --env and --dir out")
	}
	return nil
}

// commandWords splits a command line into words. No shell does that.
func commandWords(line string) (words []string, err error) {
	if strings.HasPrefix(strings.TrimSpace(line), "[") {
		if err := json.Unmarshal([]byte(line), &words); err != nil {
			return nil, usagef("--command is no JSON list of texts: %w", err)
		}
		if len(words) == 0 || words[0] == "" {
			return nil, usagef("--command is empty")
		}
		return words, nil
	}
	if strings.ContainsAny(line, `"'`+"\\") {
		return nil, usagef(`--command has quotes, which no shell takes apart: write a JSON list, such as ["python3", "app.py", "a b"]`)
	}
	return strings.Fields(line), nil
}

// appNames returns names of applications for the shell's completion.
func appNames(g *globals, wanted bool, kinds ...stack.Kind) (names []string) {
	s, _, err := loadStack(g)
	if err != nil || !wanted {
		return nil
	}
	for _, name := range s.AppNames() {
		for _, kind := range kinds {
			if s.Apps[name].Kind() == kind {
				names = append(names, name)
			}
		}
	}
	return names
}

// carryOut has the supervisor carry a request out, and shows its progress.
func carryOut(ctx context.Context, g *globals, req supervise.Request, stdout, stderr io.Writer) error {
	s, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	began := time.Now()
	result, err := runChange(ctx, g, g.client(state), req, func(e supervise.Event) { printEvent(stderr, g, e) })
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: the %s goes on in the background; see %s", req.Kind, g.command("status"))
	case err != nil:
		return changeError(s.Name, err)
	}
	if g.json {
		if err := json.NewEncoder(stdout).Encode(result); err != nil {
			return err
		}
	}
	switch {
	case result.Held && !g.json:
		app := req.Rollout.App
		fmt.Fprintf(stdout, "%s waits: look at it, and then\n  %s\n  %s\n", app, g.command("rollout "+app+" --continue"), g.command("rollout "+app+" --undo"))
	case !result.Done && !result.Held:
		return errors.New(result.Why)
	case result.Of == 0 && !g.json:
		fmt.Fprintf(stdout, "%s: nothing to do, the stack is that already\n", req.Kind)
	case !g.json:
		fmt.Fprintf(stdout, "%s: done in %.1f s\n", req.Kind, time.Since(began).Seconds())
	}
	return nil
}

// shownVersion is a version as --json shows it. Env has only the names of the variables, because
// the values may be secret.
type shownVersion struct {
	Number  int       `json:"number"`
	Since   time.Time `json:"since"`
	By      string    `json:"by"`
	Release string    `json:"release,omitempty"`
	// Kept is false when the files of the release no longer exist.
	Kept    bool     `json:"kept"`
	Command []string `json:"command"`
	Dir     string   `json:"dir,omitempty"`
	Env     []string `json:"env,omitempty"`
}

// showVersions shows what an application ran, and since when.
func showVersions(g *globals, w io.Writer, app string) error {
	s, _, state, err := locateRunning(g)
	if err != nil {
		return err
	}
	if _, there := s.Apps[app]; !there {
		return usageError{&supervise.UnknownAppError{App: app, Apps: s.AppNames()}}
	}

	all, kept, err := supervise.Versions(state, app)
	if err != nil {
		return err
	}

	shown := []shownVersion{}
	for _, v := range all {
		p := v.Shown()
		shown = append(shown, shownVersion{v.Number, v.Since, v.By, v.Release, v.Release == "" || kept[v.Number], p.Command, p.Dir, p.Env})
	}

	if g.json {
		return json.NewEncoder(w).Encode(shown)
	}
	if len(shown) == 0 {
		_, err := fmt.Fprintf(w, "nothing is known that %s ran\n", app)
		return err
	}

	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "VERSION\tSINCE\tBY\tRELEASE\tCOMMAND")
	for _, v := range shown {
		release := v.Release
		switch {
		case release == "":
			release = "-"
		case !v.Kept:
			release += " (removed)"
		}
		command := make([]string, len(v.Command))
		for i, word := range v.Command {
			command[i] = quote.Shell(word)
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\n", v.Number, v.Since.Local().Format(time.DateTime), v.By, release, quote.Line(strings.Join(command, " ")))
	}
	return tw.Flush()
}
