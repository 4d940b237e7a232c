package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"holdfast/internal/encrypt"
	"holdfast/internal/host"
	"holdfast/internal/identity"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

// joining is 'holdfast join'.
type joining struct {
	bundle, as string
	keys       keyFlags
	detach     bool
}

func joinCommand(g *globals) *cobra.Command {
	var o joining
	c := &cobra.Command{
		Use:   "join TOKEN",
		Short: "Make this machine a host of a stack, by the line that 'host add' printed",
		Long: `Make this machine a host of a stack, and run its part: the line is printed by
'holdfast host add' at a host of the stack, and works once. It needs no stack file.
A TOKEN of - is read from standard input, and is seen by nobody who lists processes.

With --bundle the token is in a file that 'holdfast export host' made. A machine that
has joined with it before only takes part again, so that it can be called anew.

In the foreground Ctrl-C ends the part of this machine, and its nodes run on. With -d
it goes on in the background; 'holdfast up -d' has it take part again after a boot,
and 'holdfast service install' has systemd do that.`,
		Example: `  holdfast join hf1_… -d
  holdfast join --bundle two.bundle -d`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.bundle != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), g, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}

	c.Flags().BoolVarP(&o.detach, "detach", "d", false, "return when it has joined; it runs on in the background")
	pathVar(c.Flags(), &o.bundle, g.getenv, "bundle", "", "`FILE` that 'holdfast export host' made, in the place of TOKEN; - for standard input")
	c.Flags().StringVar(&o.as, "as", "", "`NAME` of the host that this machine is to be: a token for another one is refused")
	o.keys.add(g, c, "bundle")
	return c
}

func (o *joining) run(ctx context.Context, g *globals, args []string, stdout, stderr io.Writer) error {
	t, err := o.token(g, args)
	if err != nil {
		return err
	}
	if o.as != "" && o.as != t.Host {
		return usagef("the join token is for host %s, and this machine is to be host %s: 'holdfast host add %s' at a host of the stack makes the one for it", t.Host, quote.Text(o.as), quote.Text(o.as))
	}
	start, again, err := join(ctx, g, t, o.bundle != "")
	if err != nil {
		return err
	}
	word := "now"
	if again {
		word = "already"
	}
	if again && o.detach && host.Claimed(start.state) {
		_, err := fmt.Fprintf(stdout, "This machine is host %s of the stack %s already, and is up.\n", start.self.Name, start.self.Stack)
		return err
	}
	if _, err := fmt.Fprintf(stdout, "This machine is host %s of the stack %s %s.\n", start.self.Name, start.self.Stack, word); err != nil {
		return err
	}
	if o.detach {
		return upHostDetached(ctx, g, start, []string{"up", "--background", "--state", start.state}, stdout, stderr)
	}
	return runHost(g, start, stdout, stderr)
}

// token returns what the host joins with: the token of the command line, of standard input or of a
// bundle.
func (o *joining) token(g *globals, args []string) (t identity.Token, err error) {
	if o.bundle == "" {
		if o.keys != (keyFlags{}) {
			return t, usagef("--passphrase-file and --identity open a bundle: give it with --bundle FILE")
		}
		text := args[0]
		if text == "-" {
			const long = 8 << 10 // longer than any token
			if text, err = bufio.NewReader(io.LimitReader(g.stdin, long)).ReadString('\n'); err != nil && err != io.EOF {
				return t, fmt.Errorf("read the join token from standard input: %w", err)
			}
		}
		if t, err = identity.ParseToken(text); err != nil {
			return t, usageError{err}
		}
		return t, nil
	}

	key, err := o.keys.key()
	if err != nil {
		return t, err
	}

	from, name := g.stdin, "standard input"
	if o.bundle != "-" {
		f, err := os.Open(o.bundle)
		if err != nil {
			return t, usagef("--bundle: %w", err)
		}
		defer f.Close()
		from, name = f, o.bundle
	}

	t, err = identity.ReadBundle(from, key)
	switch {
	case errors.As(err, new(*encrypt.KeyError)):
		return t, usagef("--bundle %s: %w (--passphrase-file or --identity)", quote.Text(name), err)
	case err != nil:
		return t, usagef("--bundle %s: %w", quote.Text(name), err)
	}
	return t, nil
}

// join makes this machine a host. If the machine is that host already, join returns again as true
// if mayBe allows it, and an error otherwise.
func join(ctx context.Context, g *globals, t identity.Token, mayBe bool) (start *hostStart, again bool, err error) {
	state, err := stateDir(g, t.Stack)
	if err != nil {
		return nil, false, err
	}

	// Later commands of this process find it without a flag.
	if g.state != "" {
		g.state = state
	}
	if self, err := host.ReadSelf(state); err == nil {
		if mayBe && self.Stack == t.Stack && self.Name == t.Host {
			return &hostStart{state: state, self: self}, true, nil
		}
		return nil, false, fmt.Errorf("this machine is host %s of the stack %s already, as %s says: 'holdfast up' has it take part", self.Name, self.Stack, state)
	}
	if _, _, known := supervise.LastFile(state); known {
		return nil, false, fmt.Errorf("%s is the state directory of a stack %s on this machine alone: end it with 'holdfast down --purge', or choose another directory with --state", state, t.Stack)
	}

	release, err := claimHost(state)
	if err != nil {
		return nil, false, err
	}
	defer release()
	if err := supervise.ForgetStopped(ctx, state); err != nil {
		return nil, false, fmt.Errorf("forget what nodes were stopped here before: %w", err)
	}

	self, err := host.Join(ctx, state, t.Encode())
	if ctx.Err() != nil {
		return nil, false, errors.New("interrupted: the same line can be used again")
	}
	if err != nil {
		return nil, false, err
	}
	return &hostStart{state: state, self: self}, false, nil
}
