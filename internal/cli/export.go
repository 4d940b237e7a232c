package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/encrypt"
	"holdfast/internal/identity"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

func exportCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Write what another machine needs, as a file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(exportHostCommand(g), exportComposeCommand(g), exportKubernetesCommand(g))
	return c
}

// hostExport is 'holdfast export host'.
type hostExport struct {
	invitation
	output         string
	passphraseFile string
	recipients     []string
}

func exportHostCommand(g *globals) *cobra.Command {
	var o hostExport
	c := &cobra.Command{
		Use:   "host NAME",
		Short: "Write the bundle by which a host joins: a token as a file, of longer life",
		Long: `Write the bundle by which a host of the stack file joins: for configuration management,
a machine that nobody can paste to, or the secrets of an orchestrator. There:
'holdfast join --bundle FILE -d'.

It holds what the line of 'holdfast host add' holds: the names of stack and host, the
host's address, those of the hosts that can let it in, the fingerprint of the stack's
authority, and a secret. It holds no key, no password and no data. It works once, and
for 7 days (--for), and the new host has to reach one of the others.

Whoever has the file first is the host: it is written for its owner alone (0600), and
can be encrypted. A later 'export host' or 'host add' of the same host makes it void.`,
		Example: `  holdfast export host two -o two.bundle
  holdfast export host two -o two.bundle --passphrase-file secret.txt
  holdfast export host two --recipient age1… | kubectl create secret generic two --from-file=bundle=/dev/stdin`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), g, args[0], cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.address, "address", "", "`IP` address of the host; without it, that of the stack file")
	c.Flags().DurationVar(&o.life, "for", identity.DefaultBundleLife, "how long the bundle can be used, up to 720h")
	pathVar(c.Flags(), &o.output, g.getenv, "output", "o", "`FILE` to write; without it, standard output")
	pathVar(c.Flags(), &o.passphraseFile, g.getenv, "passphrase-file", "", "`FILE` whose first line is a passphrase to encrypt with")
	c.Flags().StringArrayVar(&o.recipients, "recipient", nil, "age `RECIPIENT` to encrypt for (age1…), may be repeated")
	return c
}

func (o *hostExport) run(ctx context.Context, g *globals, name string, stdout io.Writer) error {
	// Everything else is checked first, because a new invitation makes an older one void.
	e, err := o.encryption()
	if err != nil {
		return usageError{err}
	}
	if err := o.checkOutput(stdout); err != nil {
		return err
	}

	t, err := severalHosts(ctx, g)
	if err != nil {
		return err
	}

	o.most = identity.MaxBundleLife
	at, err := o.check(t, name)
	if err != nil {
		return err
	}

	invited, err := t.client.Invite(ctx, name, at, o.life)
	if err != nil {
		return err
	}

	token, err := identity.ParseToken(invited.Token)
	if err != nil {
		return err
	}

	content, err := identity.Bundle(token, e)
	if err != nil {
		return err
	}

	until := invited.Expires.Local().Format(time.DateTime)
	if o.output == "" || o.output == "-" {
		fmt.Fprintf(g.stderr, "The bundle is for host %s (%s) until %s, and works once.\n", name, at, until)
		_, err := stdout.Write(content)
		return err
	}
	if err := identity.WriteBundle(o.output, content); err != nil {
		return err
	}
	if g.json {
		invited.Token = "" // the token is in the file
		return json.NewEncoder(stdout).Encode(invited)
	}

	_, err = fmt.Fprintf(stdout, "%s is for host %s (%s) until %s, and works once. There: holdfast join --bundle FILE -d\n", quote.Text(o.output), name, at, until)
	return err
}

// checkOutput checks whether the bundle can be written to its place.
func (o *hostExport) checkOutput(stdout io.Writer) error {
	if o.output == "" {
		if terminal(stdout) {
			return usagef("a bundle is a secret, and does not belong onto a terminal: give -o FILE, or - to have it there all the same")
		}
		return nil
	}
	if o.output == "-" {
		return nil
	}
	if info, err := os.Stat(o.output); err == nil && !info.Mode().IsRegular() {
		return usagef("-o %s: it is there and is no ordinary file", quote.Text(o.output))
	}
	if _, err := os.Stat(filepath.Dir(o.output)); err != nil {
		return usagef("-o: %w", err)
	}
	return nil
}

func (o *hostExport) encryption() (encrypt.Encryption, error) {
	passphrase := ""
	if o.passphraseFile != "" {
		var err error
		if passphrase, err = supervise.ReadPassphrase(o.passphraseFile); err != nil {
			return encrypt.Encryption{}, err
		}
	}
	return encrypt.For(passphrase, o.recipients)
}
