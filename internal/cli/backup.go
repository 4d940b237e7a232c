package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func backupCommand(g *globals) *cobra.Command {
	var f backupFlags
	c := &cobra.Command{
		Use:   "backup",
		Short: "Back up the data of Redis, while it serves",
		Long: `Back up the data of Redis, while it serves: all databases as they are at one moment,
in one file. It is copied from a replica that has every write which was acknowledged
before the command began. The file is a tar archive with a manifest (what it takes to
prove it), the data in Redis' own format, and checksums.

With a passphrase, or for age recipients, the data is encrypted; then the stack's
ports and passwords are in the file, too, and otherwise not.

A backup stands whole under its name, or not at all: also after a loss of power or on
a full disk, which leave those that were there before.`,
		Example: `  holdfast backup                        # to where the stack file says (backup.to)
  holdfast backup -o shop.tar            # to a file
  holdfast backup --to /backups --keep 7 # to a directory or s3://BUCKET/PREFIX; the 7 newest stay
  holdfast backup -o - | ssh host 'cat > shop.tar'
  holdfast backup verify shop.tar`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), g, cmd.OutOrStdout())
		},
	}

	flags := c.Flags()
	pathVar(flags, &f.output, g.getenv, "output", "o", "`FILE` to write; - for standard output")
	flags.StringVar(&f.to, "to", "", "`DIR` or s3://BUCKET/PREFIX to keep it in, by a name of stack and time (default: backup.to of the stack file)")
	flags.IntVar(&f.keep, "keep", 0, "how many `N` backups of the stack stay there; the oldest go (default: backup.keep for backup.to, else all)")
	pathVar(flags, &f.passphraseFile, g.getenv, "passphrase-file", "", "`FILE` whose first line is a passphrase to encrypt with")
	flags.StringArrayVar(&f.recipients, "recipient", nil, "age `RECIPIENT` to encrypt for (age1…), may be repeated")
	c.AddCommand(backupVerify(g))
	return c
}

type backupFlags struct {
	output, to     string
	keep           int
	passphraseFile string
	recipients     []string
}

func (f backupFlags) run(ctx context.Context, g *globals, stdout io.Writer) error {
	s, base, state, err := locateRunning(g)
	if err != nil {
		return err
	}

	c := supervise.BackupConfig{
		Stack: s, BaseDir: base, StateDir: state, Version: version,
		Log: slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime, Level: slog.LevelWarn})),
	}

	if isJoined(state) { // all hosts learn of the backup
		c.Note = func(b supervise.BackupState) error { return g.client(state).NoteBackup(context.WithoutCancel(ctx), b) }
	}
	if err := f.setTarget(&c, g, stdout); err != nil {
		return err
	}
	if c.Encrypt, err = f.encryption(s.Backup, base); err != nil {
		return usageError{err}
	}

	c.Began = func(node string) { fmt.Fprintf(g.stderr, "Copying the data of %s.\n", node) }
	done, err := supervise.Backup(ctx, c)
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: no backup was made")
	}
	if err != nil {
		return fmt.Errorf("no backup was made: %w", err)
	}

	out := stdout
	if f.output == "-" {
		out = g.stderr
	}
	if g.json {
		return json.NewEncoder(out).Encode(done)
	}

	_, err = fmt.Fprint(out, backupText(done))
	return err
}

// setTarget sets where the backup goes.
func (f backupFlags) setTarget(c *supervise.BackupConfig, g *globals, stdout io.Writer) (err error) {
	configured := c.Stack.Backup
	switch {
	case f.output != "" && f.to != "":
		return usagef("a backup goes to a file (-o) or to where several are kept (--to): give one of the two")
	case f.keep < 0:
		return usagef("--keep %d: write 1 or more", f.keep)
	case f.output != "" && f.keep > 0:
		return usagef("--keep is for --to: with -o there is one file, which is replaced")
	case f.output == "-":
		c.Store, c.Name = toStdout{stdout}, "backup"
		return nil
	case f.output != "":
		path, err := filepath.Abs(f.output)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			return usagef("-o %s: it is there and is no ordinary file; name a file, or give the directory to --to", quote.Text(f.output))
		}
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return usagef("-o: %w", err)
		}
		c.Store, c.Name = backup.Dir(filepath.Dir(path)), filepath.Base(path)
		return nil
	}

	to, base := f.to, "."
	if c.Keep = f.keep; to == "" {
		if to, base = configured.To, c.BaseDir; c.Keep == 0 {
			c.Keep = configured.Keep
		}
	}
	if to == "" {
		return usagef("the stack file names no place for backups (backup.to): give -o FILE, -o - or --to DIR")
	}
	if base, err = filepath.Abs(base); err != nil {
		return err
	}

	// Paths in the stack file and on the command line start from different directories.
	if configured.S3.CredentialsFile != "" && !filepath.IsAbs(configured.S3.CredentialsFile) {
		configured.S3.CredentialsFile = filepath.Join(c.BaseDir, configured.S3.CredentialsFile)
	}
	if c.Store, err = supervise.OpenStore(to, configured, base, os.Environ()); err != nil {
		return usageError{err}
	}
	return nil
}

func (f backupFlags) encryption(configured stack.Backup, base string) (encrypt.Encryption, error) {
	if f.passphraseFile == "" && len(f.recipients) == 0 {
		return supervise.EncryptionOf(configured, base)
	}
	passphrase := ""
	if f.passphraseFile != "" {
		var err error
		if passphrase, err = supervise.ReadPassphrase(f.passphraseFile); err != nil {
			return encrypt.Encryption{}, err
		}
	}
	return encrypt.For(passphrase, f.recipients)
}

// toStdout is a store of one backup. It writes the backup to standard output only when the backup
// is finished, so that a slow reader does not keep a Redis node forked.
type toStdout struct{ io.Writer }

func (toStdout) TempDir() string                                     { return "" }
func (toStdout) Where(string) string                                 { return "-" }
func (toStdout) List(context.Context) ([]string, error)              { return nil, nil }
func (toStdout) Remove(context.Context, string) error                { return nil }
func (toStdout) Open(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

func (o toStdout) Put(ctx context.Context, path, _ string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	// The copy runs on its own, so that a reader that stops reading cannot keep the command from
	// being interrupted.
	copied := make(chan error, 1)
	go func() {
		defer f.Close()
		_, err := io.Copy(o.Writer, f)
		copied <- err
	}()
	select {
	case err := <-copied:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func backupText(done supervise.BackupRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", quote.Text(done.Where))
	keys := "keys not counted"
	if done.Keys >= 0 {
		keys = strconv.FormatInt(done.Keys, 10) + " keys"
	}
	fmt.Fprintf(&b, "  %s, %s, of %s (%s), as of %s, in %.1f s\n", keys, sizeOf(done.Bytes), done.Node, done.Role, done.Begun.Local().Format(time.DateTime), done.Seconds)
	for _, gone := range done.Removed {
		fmt.Fprintf(&b, "  removed %s\n", quote.Text(gone))
	}
	return b.String()
}

// backupLine returns a line about the stack's backups, or "" if none was ever taken.
func backupLine(b supervise.BackupState) string {
	line := ""
	if b.Last != nil {
		line = "last backup " + b.Last.Begun.Local().Format(time.DateTime)
	}
	if !b.Next.IsZero() && b.Failure == nil {
		line += ", next " + b.Next.Local().Format(time.DateTime)
	}
	if b.Failure != nil {
		line = strings.TrimPrefix(line+"; ", "; ") + "a backup failed at " + b.Failure.At.Local().Format(time.DateTime) + ": " + quote.Text(b.Failure.Error)
	}
	if line == "" {
		return ""
	}
	return strings.TrimPrefix(line, ", ") + "\n"
}

// sizeOf returns a number of bytes for a person.
func sizeOf(bytes int64) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	case bytes < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// keyFlags are the flags that open an encrypted file.
type keyFlags struct{ passphraseFile, identity string }

// add adds the flags, for a kind of file such as "backup".
func (k *keyFlags) add(g *globals, c *cobra.Command, kind string) {
	pathVar(c.Flags(), &k.passphraseFile, g.getenv, "passphrase-file", "", "`FILE` whose first line is the passphrase of an encrypted "+kind)
	pathVar(c.Flags(), &k.identity, g.getenv, "identity", "", "`FILE` with the age identity of an encrypted "+kind+" (age-keygen -o FILE)")
}

func (k keyFlags) key() (encrypt.Key, error) {
	passphrase := ""
	var identities []byte
	var err error
	if k.passphraseFile != "" {
		if passphrase, err = supervise.ReadPassphrase(k.passphraseFile); err != nil {
			return encrypt.Key{}, usageError{err}
		}
	}
	if k.identity != "" {
		if identities, err = os.ReadFile(k.identity); err != nil {
			return encrypt.Key{}, usagef("--identity: %w", err)
		}
		if len(identities) == 0 {
			return encrypt.Key{}, usagef("--identity: %s is empty", quote.Text(k.identity))
		}
	}
	key, err := encrypt.KeyOf(passphrase, identities)
	if err != nil {
		return encrypt.Key{}, usageError{err}
	}
	return key, nil
}

func backupVerify(g *globals) *cobra.Command {
	var keys keyFlags
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a backup: load it into a Redis of its own and count",
		Long: `Verify a backup. Every byte is compared with its checksum, and the data is loaded
into a Redis server of its own, which counts the keys of each database: they have to
be those of the manifest. That server takes the memory that the data needs, listens to
nobody else and writes nothing; no stack has to be there.

An encrypted backup needs its passphrase or an identity; without, its bytes are
compared with their checksums, and no more.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := keys.key()
			if err != nil {
				return err
			}
			f, err := backup.Open(args[0])
			if err != nil {
				return usageError{err}
			}
			defer f.Close()
			s, _, err := loadStack(g)
			if err != nil { // only the backup has to be right
				s = stack.Default()
			}
			state, _ := stateDir(g, s.Name) // if this fails there is no data, either
			program, err := supervise.RedisServer(s.Redis, state)
			if err != nil {
				return err
			}
			m, depth, err := backup.Verify(cmd.Context(), f, key, program, nil)
			if err != nil {
				return backupError(args[0], err)
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
					Verified backup.Depth    `json:"verified"`
					Manifest backup.Manifest `json:"manifest"`
				}{depth, m})
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), verifiedText(args[0], m, depth))
			return err
		},
	}

	keys.add(g, c, "backup")
	return c
}

// backupError returns an error that says what is wrong with a backup.
func backupError(file string, err error) error {
	name := quote.Text(file)
	switch {
	case errors.As(err, new(*encrypt.KeyError)):
		return usagef("%s: %w (--passphrase-file or --identity)", name, err)
	case errors.As(err, new(*backup.ForeignError)):
		return fmt.Errorf("%s: %w", name, err)
	case backup.Unusable(err):
		return fmt.Errorf("%s is damaged: %w", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func verifiedText(file string, m backup.Manifest, depth backup.Depth) string {
	var b strings.Builder
	how := map[backup.Depth]string{
		backup.Bytes:     "is whole: every byte has its checksum. It is encrypted: with its passphrase or an identity, the data is looked at, too",
		backup.Structure: "is whole, and so is its data",
		backup.Loaded:    "is good: Redis has loaded it, and counted the keys of the manifest",
	}[depth]
	fmt.Fprintf(&b, "%s %s.\n%s", quote.Text(file), how, aboutBackup(m))
	return b.String()
}

// aboutBackup returns what a manifest says, for a person. It quotes all of it, because the file may
// come from anywhere.
func aboutBackup(m backup.Manifest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  stack %s, as of %s, from %s (%s) at %s:%d\n", quote.Text(m.Stack), m.Begun.Local().Format(time.DateTime),
		quote.Text(m.Node), quote.Text(m.Role), quote.Text(m.Replication.ID), m.Replication.Offset)
	fmt.Fprintf(&b, "  Redis %s, Holdfast %s\n", quote.Text(m.Versions.Redis), quote.Text(m.Versions.Holdfast))
	if m.Databases == nil {
		fmt.Fprintf(&b, "  keys not counted: %s\n", quote.Text(m.Uncounted))
	}
	var numbers []int
	for db := range m.Databases {
		numbers = append(numbers, db)
	}
	slices.Sort(numbers)
	for _, db := range numbers {
		fmt.Fprintf(&b, "  database %d: %s\n", db, m.Databases[db])
	}
	return b.String()
}
