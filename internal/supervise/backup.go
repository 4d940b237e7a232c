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

// A backup needs no supervisor: the process that takes it asks the nodes itself. Which node it
// copies is in backup_source.go; the format is package backup's.

// BackupConfig is what to back up, and where to.
type BackupConfig struct {
	Stack             stack.Stack
	BaseDir, StateDir string
	// Version is Holdfast's version.
	Version string
	// Store keeps the backup under Name; if that is empty, under the stack's name and the time.
	Store backup.Store
	Name  string
	// Keep is how many backups of the stack stay in the store; 0 keeps all.
	Keep    int
	Encrypt encrypt.Encryption
	// Scheduled is true for a backup that the supervisor takes by its schedule.
	Scheduled bool
	// Note stores the outcome. If it is nil, the outcome is written to BackupFile in StateDir.
	Note func(BackupState) error
	// Began, if it is not nil, is called with the name of the copied node when that begins to
	// send.
	Began func(node string)
	Log   *slog.Logger
}

// BackupFile is the name, in the state directory, of the file with the outcome of the last
// backups: a BackupState.
const BackupFile = "backup.json"

const (
	backupLock  = "backup.lock"
	backupSpool = "backup" // the directory of backups before they are sent to their store
)

// BackupState is the content of BackupFile.
type BackupState struct {
	// Last is the last backup that succeeded; nil if there was none.
	Last *BackupRecord `json:"last,omitempty"`
	// Failure is the last backup that failed, if it is newer than Last; otherwise nil.
	Failure *BackupFailure `json:"failure,omitempty"`
	// Next is when the supervisor takes the next backup; zero if it takes none.
	Next time.Time `json:"next,omitzero"`
}

// BackupRecord is a backup that succeeded.
type BackupRecord struct {
	// Where is the backup's path or URL; "-" is standard output.
	Where string `json:"where"`
	// Begun is when the backup began, and Seconds is how long it took until it was stored.
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"`
	Bytes   int64     `json:"bytes"`
	// Keys is how many keys all databases have; -1 if they were not counted.
	Keys int64  `json:"keys"`
	Node string `json:"node"` // the node that was copied
	Role string `json:"role"`
	// Verified is how much of it was verified after it was written.
	Verified  backup.Depth `json:"verified"`
	Scheduled bool         `json:"scheduled"`
	// Encryption is as in the manifest.
	Encryption string `json:"encryption,omitempty"`
	// Removed lists the old backups that were removed after this one.
	Removed []string `json:"removed,omitempty"`
}

// BackupFailure is a backup that failed.
type BackupFailure struct {
	At        time.Time `json:"at"`
	Error     string    `json:"error"`
	Scheduled bool      `json:"scheduled"`
}

// LastBackup returns what is known of a stack's backups; the zero value if nothing is.
func LastBackup(stateDir string) (b BackupState, err error) {
	return b, dirAt(stateDir).readJSON(BackupFile, &b)
}

// Backup takes a backup, verifies it, stores it, and removes old ones if the configuration says
// so. If anything goes wrong, earlier backups stay as they are and no partial one is left. The
// outcome is written to BackupFile. If another backup or a restore of the stack is under way,
// the error is a *RefusedError.
func Backup(ctx context.Context, c BackupConfig) (BackupRecord, error) {
	d := dirAt(c.StateDir)
	if !HasState(c.StateDir) {
		return BackupRecord{}, refused("there is no stack in %s, and so no data", d)
	}
	unlock, err := d.lockBackup(ctx)
	if err != nil {
		return BackupRecord{}, err
	}
	defer unlock()

	done, err := c.takeBackup(ctx)
	if ctx.Err() != nil && err != nil {
		return done, err // a backup that was cancelled is no failure
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

// lockPatience is how long a backup waits for another one of the same stack: two at once would
// fork two nodes.
const lockPatience = 5 * time.Second

var errBackupBusy = &RefusedError{"another backup or a restore of the stack is under way"}

// lockBackup takes the lock that backups and restores of the stack share. The error is
// errBackupBusy if the lock is not free within lockPatience.
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

// takeBackup takes a backup. The caller holds the lock.
func (c BackupConfig) takeBackup(ctx context.Context) (_ BackupRecord, err error) {
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

// tempDir returns the directory that the backup is written to first, and the beginning of its
// file's name.
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

// explainDisk adds to the error of a full disk what it means.
func explainDisk(err error, where string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("the disk of %s is full; what was there before has not changed: %w", where, err)
	}
	return err
}
