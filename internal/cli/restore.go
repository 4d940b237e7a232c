package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/backup"
	"holdfast/internal/control"
	"holdfast/internal/encrypt"
	"holdfast/internal/quote"
	"holdfast/internal/supervise"
)

func restoreCommand(g *globals) *cobra.Command {
	var keys keyFlags
	var yes bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put the data of a backup into the place of the stack's",
		Long: `Put the data of a backup into the place of the stack's. What was written since that
backup is lost; the data that is there now is kept in a directory beside it.

The backup is verified first, as by 'holdfast backup verify', and loaded by this
machine's Redis: a damaged or foreign file changes nothing.

A stack that is down, or was never up, starts with the data at the next 'holdfast up'.
Of a stack that runs, Redis and its Sentinels are stopped and started again; clients wait
meanwhile, or get 503. A loss of power in the middle leaves the old data or the new.

A stack of several hosts is restored while it runs, from any host that is up: FILE lies
there, and its data goes to the host that is to have it. All hosts with redis nodes or
Sentinels have to be up. When one is lost in the middle, the restore is carried through
without it, or given up, and the data is what it was before.

Ctrl-C while the backup is verified changes nothing; after that the supervisor
carries the restore through.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := keys.key()
			if err != nil {
				return err
			}
			return restore(cmd.Context(), g, args[0], key, yes, cmd.OutOrStdout())
		},
	}
	keys.add(g, c, "backup")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask before the data of the stack is replaced")
	return c
}

func restore(ctx context.Context, g *globals, file string, key encrypt.Key, yes bool, stdout io.Writer) error {
	s, base, state, err := locateRunnable(g)
	if err != nil {
		return err
	}
	if !s.Redis.Enabled {
		return usagef("the stack has no Redis, and so no data to restore")
	}

	f, err := backup.Open(file)
	if err != nil {
		return usageError{err}
	}
	defer f.Close()

	m, err := backup.ReadManifest(f)
	if err != nil {
		return backupError(file, err)
	}
	if isJoined(state) {
		return restoreHosts(ctx, g, s.Name, state, f, m, key, yes, stdout)
	}

	client := control.NewClient(state)
	_, err = client.Status(ctx)
	runs := err == nil
	if err != nil && !errors.Is(err, control.ErrNoSupervisor) {
		return err
	}
	if err := confirm(ctx, g, file, m, s.Name, supervise.HasState(state), runs, yes); err != nil {
		return err
	}

	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}

	c := supervise.RestoreConfig{
		BackupConfig: supervise.BackupConfig{
			Stack: s, BaseDir: base, StateDir: state, Version: version,
			Log: slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime, Level: slog.LevelWarn})),
		},
		File: f, Path: path, Key: key,
	}

	unlock, err := c.LockRestore(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	staged := true // and this command has to remove it
	defer func() {
		if staged {
			supervise.Unstage(state)
		}
	}()
	fmt.Fprintln(g.stderr, "Verifying the backup.")
	if _, err := supervise.StageRestore(ctx, c); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted: nothing was changed")
		}
		return nothingChanged(backupError(file, err))
	}

	var done supervise.Restored
	if runs {
		fmt.Fprintln(g.stderr, "Restoring it. Redis and the Sentinels stop for it; requests wait.")
		staged = false // from here on the staged data and the lock are the supervisor's
		unlock()
		done, err = client.Restore(ctx, "", "")
	} else {
		done, err = supervise.Restore(c)
	}

	if err != nil && runs && ctx.Err() != nil {
		return errors.New("interrupted: the restore goes on in the background; see 'holdfast status'")
	}
	if err != nil {
		return nodeError(s.Name, err)
	}
	if g.json {
		return json.NewEncoder(stdout).Encode(done)
	}

	_, err = fmt.Fprint(stdout, restoredText(done, runs))
	return err
}

// confirm tells the user what would be lost, and asks for consent. A stack without data loses
// nothing.
func confirm(ctx context.Context, g *globals, file string, m backup.Manifest, stackName string, kept, runs, yes bool) error {
	fmt.Fprintf(g.stderr, "%s:\n%s", quote.Text(file), aboutBackup(m))
	if m.Stack != stackName {
		fmt.Fprintf(g.stderr, "It is of the stack %s, and this one is %s.\n", quote.Text(m.Stack), stackName)
	}
	if !kept || yes {
		return nil
	}
	state := "is down"
	if runs {
		state = "runs"
	}
	fmt.Fprintf(g.stderr, "The stack %s %s. What was written since the backup is lost to it; the data of now is kept aside.\n", stackName, state)
	return ask(ctx, g, "Replace the data?", "the stack has data already: --yes replaces it")
}

func restoredText(done supervise.Restored, runs bool) string {
	var b strings.Builder
	b.WriteString(restoredKeys(done))
	if runs {
		fmt.Fprintf(&b, " are there; the master is %s. Requests waited for %.1f s at most.\n", done.Node, float64(done.Stopped)/1000)
	} else {
		b.WriteString(" are in their place; 'holdfast up' starts with them.\n")
	}
	if done.Aside != "" {
		fmt.Fprintf(&b, "The former data is in %s; remove it when it is not needed any more.\n", quote.Shell(done.Aside))
	}
	return b.String()
}

func restoredKeys(done supervise.Restored) string {
	keys := "The data"
	if n := done.Manifest.Keys(); n >= 0 {
		keys = fmt.Sprintf("%d keys", n)
	}
	return fmt.Sprintf("%s as of %s", keys, done.Manifest.Begun.Local().Format("2006-01-02 15:04:05"))
}
