package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/push"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
)

// pushing is 'holdfast push'.
type pushing struct {
	invitation
	to      string
	options []string
	program string // a holdfast for the system of that machine; empty: this program
	replace bool
	there   push.Target
}

// pushLife is how long the token of a push is valid. It is used at once.
const pushLife = 10 * time.Minute

func pushCommand(g *globals) *cobra.Command {
	var o pushing
	c := &cobra.Command{
		Use:   "push NAME",
		Short: "Have another machine join by ssh: copy the program there, and run it",
		Long: `Have another machine join as a host of the stack file: by ssh, and as the account that
ssh logs in to. It connects to the address of the host; --to says another name or account,
as ssh takes it, and ~/.ssh/config counts as always.

It looks for holdfast there, copies this program if there is none, and has it join the
stack in the background, as the line of 'holdfast host add' does. HAProxy and Redis have
to be there. What it needs to join goes through ssh's standard input: no command line
has it, here or there.

'holdfast service install' on the new host has systemd start its part at boot.`,
		Example: `  holdfast push two
  holdfast push two --to admin@two.example.net --ssh-option Port=2222
  holdfast push two --program holdfast-arm64`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), g, args[0], cmd.OutOrStdout())
		},
	}

	flags := c.Flags()
	flags.StringVar(&o.to, "to", "", "where ssh connects to: `[USER@]HOST` (default: the host's address)")
	flags.StringArrayVar(&o.options, "ssh-option", nil, "`KEY=VALUE` for ssh, as its -o takes it; may be repeated")
	flags.StringVar(&o.address, "address", "", "`IP` address of the host; without it, that of the stack file")
	pathVar(flags, &o.program, g.getenv, "program", "", "holdfast `FILE` to copy there, for a machine of another architecture (default: this program)")
	flags.StringVar(&o.there.Program, "remote-program", "", "`PATH` of holdfast there (default: the one on its PATH, else /usr/local/bin/holdfast, or ~/.local/bin/holdfast without root)")
	flags.StringVar(&o.there.State, "remote-state", "", "state `DIR` there (default: as without --state there)")
	flags.BoolVar(&o.replace, "replace", false, "where another version of holdfast is there, copy this one over it")
	return c
}

func (o *pushing) run(ctx context.Context, g *globals, name string, stdout io.Writer) error {
	if err := o.checkFlags(); err != nil {
		return err
	}
	program, system, err := o.ownProgram()
	if err != nil {
		return err
	}
	t, err := severalHosts(ctx, g)
	if err != nil {
		return err
	}
	o.life = pushLife
	at, err := o.check(t, name)
	if err != nil {
		return err
	}
	if s, is := t.viewOf(name); is && s.Votes {
		return fmt.Errorf("host %s is one of the stack already: 'holdfast host replace %s' removes it, so that another machine can take its place", name, name)
	}
	return o.push(ctx, g, t, name, at, program, system, stdout)
}

// checkFlags refuses values that ssh or the other machine would misunderstand.
func (o *pushing) checkFlags() error {
	for flag, path := range map[string]string{"--remote-program": o.there.Program, "--remote-state": o.there.State} {
		if path != "" && !filepath.IsAbs(path) {
			return usagef("%s %s: give a path that begins with /", flag, quote.Text(path))
		}
		if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' }) {
			return usagef("%s %s has a control character", flag, quote.Text(path))
		}
	}
	if strings.HasPrefix(o.to, "-") || strings.ContainsAny(o.to, " \t\n") {
		return usagef("--to %s: give HOST or USER@HOST; options of ssh go into --ssh-option", quote.Text(o.to))
	}
	for _, option := range o.options {
		if key, _, is := strings.Cut(option, "="); !is || key == "" || strings.ContainsAny(option, "\n\r") {
			return usagef("--ssh-option %s is not KEY=VALUE, such as Port=2222", quote.Text(option))
		}
	}
	return nil
}

// ownProgram returns the program file to copy, and the system that it is for.
func (o *pushing) ownProgram() (path, system string, err error) {
	if o.program == "" {
		if path, err = os.Executable(); err != nil {
			return "", "", fmt.Errorf("find the path of this program: %w", err)
		}
		return path, push.Own, nil
	}
	if system, err = push.SystemOf(o.program); err != nil {
		return "", "", usagef("--program: %w", err)
	}
	return o.program, system, nil
}

func (o *pushing) push(ctx context.Context, g *globals, t hostsThere, name string, at netip.Addr, program, system string, stdout io.Writer) error {
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}

	target := o.there
	target.To, target.Options, target.Stack = cmp.Or(o.to, at.String()), o.options, t.view.Stack
	session, found, err := push.Open(ctx, target, info.Size())
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: nothing was changed")
	case errors.Is(err, push.ErrNoSSH):
		return fmt.Errorf("%w; or run 'holdfast host add %s', and paste its line there", err, name)
	case err != nil:
		return fmt.Errorf("host %s is not reached, and nothing was changed: %w", name, err)
	}
	defer session.Close()

	copies, err := o.checkMachine(t, name, found, system)
	if err != nil {
		return err
	}

	invited, err := t.client.Invite(ctx, name, at, o.life)
	if err != nil {
		return err
	}

	var from io.Reader
	if copies {
		fmt.Fprintf(g.stderr, "Copying holdfast to %s on host %s (%d MiB).\n", quote.Text(found.Program), name, (info.Size()+1<<20-1)>>20)
		from = f
	}

	err = session.Join(invited.Token, from, func(line string) { fmt.Fprintf(g.stderr, "%s: %s\n", name, quote.Line(line)) })
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: see 'holdfast host list' whether host %s has joined", name)
	case err != nil:
		return fmt.Errorf("host %s: %w", name, err)
	}

	_, err = fmt.Fprintf(stdout, "Host %s (%s) has joined the stack %s.\n", name, at, t.view.Stack)
	return err
}

// checkMachine returns an error if the machine cannot be the host, and whether the program
// has to be copied there.
func (o *pushing) checkMachine(t hostsThere, name string, found push.Machine, system string) (copies bool, err error) {
	own := fmt.Sprintf("holdfast %s (commit %s,", version, commit)
	switch {
	case found.Joined:
		return false, fmt.Errorf("that machine is a host of a stack already, as %s on it says", quote.Text(found.State))
	case strings.HasPrefix(found.Version, own):
	case found.There && !o.replace:
		is := cmp.Or(found.Version, "a program that does not say its version")
		return false, fmt.Errorf("on host %s, %s is %s, and this is holdfast %s (commit %s): --replace copies this one over it, --remote-program PATH puts it elsewhere",
			name, quote.Text(found.Program), quote.Text(is), version, commit)
	case found.System != system:
		return false, fmt.Errorf("host %s is %s, and this program is for %s: give one that is for it with --program FILE, or install holdfast there", name, quote.Text(found.System), system)
	default:
		copies = true
	}

	var lacks, packages []string
	takes := func(kind string) bool {
		i := slices.IndexFunc(t.stack.Hosts, func(h stack.Host) bool { return h.Name == name })
		return i >= 0 && !t.guessed[t.stack.Hosts[i].Name] && t.stack.Hosts[i].Takes(kind)
	}

	if !found.HasHAProxy && takes(stack.OfBalancers) {
		lacks, packages = append(lacks, "HAProxy"), append(packages, "haproxy")
	}

	if t.stack.Redis.Enabled && (takes(stack.OfRedis) || takes(stack.OfSentinels)) {
		switch server := t.stack.Redis.Server; {
		case server == stack.ServerValkey && !found.HasValkey:
			lacks, packages = append(lacks, "Valkey"), append(packages, "valkey-server")
		case server != stack.ServerValkey && !found.HasRedis && (server == stack.ServerRedis || !found.HasValkey):
			lacks, packages = append(lacks, "Redis"), append(packages, "redis-server")
		}
	}

	if len(lacks) > 0 {
		return false, fmt.Errorf("host %s has no %s: install it there (apt-get install %s; its own service is not needed), then push again", name, strings.Join(lacks, " and no "), strings.Join(packages, " "))
	}
	return copies, nil
}
