package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/private"
	"holdfast/internal/stack"
)

// A backup needs no supervisor: the process that takes one asks the nodes by itself. What it
// copies, and from where, is in backup_source.go; the format is package backup's.

// BackupConfig says what to back up, and where to.
type BackupConfig struct {
	Stack             stack.Stack
	BaseDir, StateDir string
	// Version is that of Holdfast.
	Version string
	// Store keeps the backup under Name; empty: a name by stack and time.
	Store backup.Store
	Name  string
	// Keep is how many backups of the stack are left there; 0: all.
	Keep    int
	Encrypt encrypt.Encryption
	// Scheduled is true for a backup that the supervisor takes by itself.
	Scheduled bool
	// Note writes down how it went; nil: BackupFile is written here.
	Note func(BackupState) error
	// Began is told which node is copied, when it has begun to send; nil: nobody is.
	Began func(node string)
	Log   *slog.Logger
}

// BackupFile is the name, in the state directory, of the file that tells of the last
// backup: a BackupState.
const BackupFile = "backup.json"

const (
	backupLock  = "backup.lock"
	backupSpool = "backup" // the directory of backups on their way elsewhere
)

// BackupState is what BackupFile has.
type BackupState struct {
	// Last is the last backup that succeeded; nil: there was none.
	Last *BackupRecord `json:"last,omitempty"`
	// Failure is the last one that failed, when that was after Last; nil: none.
	Failure *BackupFailure `json:"failure,omitempty"`
	// Next is when the supervisor takes the next one; zero: it takes none.
	Next time.Time `json:"next,omitzero"`
}

// BackupRecord is one backup that succeeded.
type BackupRecord struct {
	// Where is its path or URL; "-" is standard output.
	Where string `json:"where"`
	// Begun is when it began, Seconds how long it took until it was stored.
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"`
	Bytes   int64     `json:"bytes"`
	// Keys is how many there are in all databases; -1: not counted.
	Keys int64  `json:"keys"`
	Node string `json:"node"` // that was copied
	Role string `json:"role"`
	// Verified is how much of it was verified after it was written.
	Verified  backup.Depth `json:"verified"`
	Scheduled bool         `json:"scheduled"`
	// Encryption is as in the manifest.
	Encryption string `json:"encryption,omitempty"`
	// Removed are the old ones that were removed after it.
	Removed []string `json:"removed,omitempty"`
}

// BackupFailure is one that failed.
type BackupFailure struct {
	At        time.Time `json:"at"`
	Error     string    `json:"error"`
	Scheduled bool      `json:"scheduled"`
}

// LastBackup returns what is known of a stack's backups; zero: nothing.
func LastBackup(stateDir string) (b BackupState, err error) {
	return b, dirAt(stateDir).readJSON(BackupFile, &b)
}

// Backup takes a backup, verifies it, stores it, and removes old ones if the
// configuration says so. Whatever goes wrong, what was stored before stays as it is,
// and nothing that is half done is left. What came of it stands in BackupFile.
func Backup(ctx context.Context, c BackupConfig) (BackupRecord, error) {
	d := dirAt(c.StateDir)
	if !Kept(c.StateDir) {
		return BackupRecord{}, refused("there is no stack in %s, and so no data", d)
	}
	unlock, err := d.lockBackup(ctx)
	if err != nil {
		return BackupRecord{}, err
	}
	defer unlock()

	done, err := c.take(ctx)
	if ctx.Err() != nil && err != nil {
		return done, err // nobody wanted it any more
	}
	known, readErr := LastBackup(c.StateDir)
	if err != nil {
		known.Failure = &BackupFailure{At: time.Now().UTC(), Error: err.Error(), Scheduled: c.Scheduled}
	} else {
		known.Last, known.Failure = &done, nil
	}
	if readErr == nil || err == nil {
		note := c.Note
		if note == nil {
			note = func(b BackupState) error { return d.writeJSON(BackupFile, b) }
		}
		if writeErr := note(known); writeErr != nil {
			c.Log.Warn("cannot write down how the backup went", "error", writeErr)
		}
	}
	return done, err
}

// lockPatience is how long a backup waits for another one of the same stack: two at
// once would fork two nodes.
const lockPatience = 5 * time.Second

var errBackupBusy = &RefusedError{"another backup or a restore of the stack is under way"}

func (d dir) lockBackup(ctx context.Context) (unlock func(), err error) {
	f, err := private.Open(d.path(backupLock), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("lock the backups: %w", err)
	}
	free := func(context.Context) bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil }
	if !within(ctx, lockPatience, 50*time.Millisecond, free) {
		f.Close()
		return nil, errBackupBusy
	}
	return func() { f.Close() }, nil
}

// take takes a backup. The caller has the lock.
func (c BackupConfig) take(ctx context.Context) (_ BackupRecord, err error) {
	began := time.Now()
	where, base, err := c.tempDir()
	if err != nil {
		return BackupRecord{}, err
	}
	backup.RemoveParts(where, base)
	f, err := backup.Temp(where, base)
	if err != nil {
		return BackupRecord{}, fmt.Errorf("begin the backup: %w", err)
	}
	// After Put there is nothing left to remove.
	defer os.Remove(f.Name())
	defer f.Close()

	m, err := c.copyData(ctx, f)
	if err != nil {
		return BackupRecord{}, explainDisk(err, where)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return BackupRecord{}, err
	}
	_, depth, err := backup.Check(f, encrypt.Key{})
	if err != nil {
		return BackupRecord{}, fmt.Errorf("the backup was written, and what is on the disk is not what was written: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return BackupRecord{}, err
	}

	name := c.Name
	if name == "" {
		name = backup.Name(c.Stack.Name, m.Begun)
	}
	if err := c.Store.Put(ctx, f.Name(), name); err != nil {
		return BackupRecord{}, explainDisk(fmt.Errorf("store the backup: %w", err), c.Store.Where(name))
	}
	done := BackupRecord{
		Where: c.Store.Where(name), Begun: m.Begun, Seconds: time.Since(began).Seconds(), Bytes: info.Size(),
		Keys: m.Keys(), Node: m.Node, Role: m.Role, Verified: depth, Scheduled: c.Scheduled, Encryption: m.Encryption,
	}
	if c.Keep > 0 {
		if done.Removed, err = backup.Prune(ctx, c.Store, c.Stack.Name, c.Keep); err != nil {
			c.Log.Warn("the backup is stored, and old ones are not removed", "error", err)
		}
	}
	return done, nil
}

// tempDir is the directory that the backup is written to, and how its file's name
// begins there.
func (c BackupConfig) tempDir() (where, base string, err error) {
	base = c.Stack.Name
	if c.Name != "" {
		base = c.Name
	}
	if where = c.Store.TempDir(); where != "" {
		return where, base, nil
	}
	where = dirAt(c.StateDir).path(backupSpool)
	if err := os.MkdirAll(where, 0o700); err != nil {
		return "", "", fmt.Errorf("make a directory for the backup: %w", err)
	}
	return where, base, nil
}

// explainDisk says of a full disk what it means.
func explainDisk(err error, where string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("the disk of %s is full; what was there before has not changed: %w", where, err)
	}
	return err
}
