package supervise

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/stack"
)

const (
	// retryBackup is after how long, at most, a scheduled backup that failed is tried again.
	retryBackup = 5 * time.Minute
	// backupTick is how often the supervisor checks whether a backup is due.
	backupTick = time.Second
)

// nextBackup returns when the next scheduled backup is due. The first backup, and one that was
// missed, for example while the stack was down, are due at once.
func nextBackup(b stack.Backup, known BackupState, now time.Time) time.Time {
	next := now
	if known.Last != nil {
		next = known.Last.Begun.Add(b.Every)
	}
	if known.Failure != nil {
		if retry := known.Failure.At.Add(min(b.Every, retryBackup)); retry.After(next) {
			next = retry
		}
	}

	// If the clock was set back, next may be far in the future.
	if latest := now.Add(b.Every); next.After(latest) {
		next = latest
	}
	return next
}

// keepBackups takes backups by the stack file's schedule, until the supervisor ends. The outcome
// of each is written to BackupFile and to the log.
func (s *Supervisor) keepBackups() {
	shown := time.Time{}
	for clock.Sleep(s.ctx, backupTick) {
		if s.stopping.Load() {
			return
		}
		b := s.stack().Backup // a change may have given it another schedule
		if b.Every == 0 || b.To == "" {
			continue
		}

		known, err := LastBackup(s.dir.root)
		if err != nil {
			s.log.Error("cannot read how the last backup went: one is taken", "error", err)
			known = BackupState{}
		}

		next := nextBackup(b, known, time.Now())
		if time.Now().Before(next) {
			if !next.Equal(shown) {
				shown = next
				s.planBackup(next)
			}
			continue
		}
		s.scheduledBackup(s.ctx, b)
	}
}

// planBackup writes down when the next backup is due.
func (s *Supervisor) planBackup(next time.Time) {
	unlock, err := s.dir.lockBackup(s.ctx)
	if err != nil {
		return // the lock's holder writes the file, too; a later tick shows the time
	}
	defer unlock()
	known, err := LastBackup(s.dir.root)
	if err == nil && !known.Next.Equal(next) {
		known.Next = next.UTC()
		err = s.dir.writeJSON(BackupFile, known)
	}
	if err != nil {
		s.log.Warn("cannot write down when the next backup is due", "error", err)
	}
}

// scheduledBackup takes a backup by the schedule, and logs the outcome.
func (s *Supervisor) scheduledBackup(ctx context.Context, b stack.Backup) {
	c := BackupConfig{
		Stack: s.stack(), BaseDir: s.baseDir(), StateDir: s.cfg.StateDir, Version: s.cfg.Version,
		Keep: b.Keep, Scheduled: true, Log: s.log,
		Note: func(b BackupState) error { return s.dir.writeJSON(BackupFile, b) }, // writeJSON shares the file with all hosts
	}

	var err error
	if c.Store, err = OpenStore(b.To, b, s.baseDir(), s.cfg.Environ); err == nil {
		c.Encrypt, err = EncryptionOf(b, s.baseDir())
	}
	var done BackupRecord
	if err == nil {
		done, err = Backup(ctx, c)
	} else {
		s.noteFailure(err)
	}

	switch busy := new(RefusedError); {
	case err == nil:
		s.log.Info("backup taken", "where", done.Where, "bytes", done.Bytes, "keys", done.Keys, "node", done.Node, "seconds", done.Seconds, "removed", len(done.Removed))
	case ctx.Err() != nil:
	case errors.As(err, &busy) && busy == errBackupBusy: // it is tried again
	default:
		s.log.Error("the scheduled backup failed", "error", err)
	}
}

// NoteBackup stores the outcome of a backup that a command took on any of several hosts.
func (s *Supervisor) NoteBackup(b BackupState) error {
	known, err := LastBackup(s.dir.root)
	if err != nil {
		return err
	}
	known.Last, known.Failure = b.Last, b.Failure
	return s.dir.writeJSON(BackupFile, known)
}

// noteFailure writes down why no backup could begin.
func (s *Supervisor) noteFailure(why error) {
	unlock, err := s.dir.lockBackup(s.ctx)
	if err != nil {
		return
	}
	defer unlock()
	known, _ := LastBackup(s.dir.root)
	known.Failure = &BackupFailure{At: time.Now().UTC(), Error: why.Error(), Scheduled: true}
	if err := s.dir.writeJSON(BackupFile, known); err != nil {
		s.log.Warn("cannot write down how the backup went", "error", err)
	}
}
