package drill

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/clock"
	"holdfast/internal/private"
	"holdfast/internal/supervise"
)

// drillLock is a drill's hold on a state directory. It allows one drill at a time, and has the
// drill's journal and the undo process that carries it out if the drill is killed.
type drillLock struct {
	dir         string
	made        bool // the directory was not there before: the lock file has madeMark
	file        *os.File
	journal     *journal
	undoProcess *undoProcess
}

const (
	lockName    = supervise.DrillLock
	journalName = "drill-undo.json"
	madeMark    = "the directory is the drill's\n"
)

// takeDrillLock makes this the only drill of the stack, and undoes what an earlier one left. Keys
// that it cannot remove do no harm, so it only reports them by Config.Note. A drill on a stack of
// its own ignores left keys.
func takeDrillLock(c Config) (_ *drillLock, err error) {
	l := &drillLock{dir: c.State}
	if _, err := os.Stat(c.State); errors.Is(err, os.ErrNotExist) {
		l.made = true
	}

	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	// The journal in it is carried out with the rights of the user who runs the drill.
	if err := private.CheckDir(c.State); err != nil {
		return nil, err
	}

	defer func() {
		if err != nil {
			l.release()
		}
	}()

	if l.file, err = lock(c.State); err != nil {
		return nil, err
	}
	if err := l.writeMarks(c.Own); err != nil {
		return nil, err
	}
	if l.journal, err = openJournal(filepath.Join(c.State, journalName)); err != nil {
		return nil, err
	}

	if err := l.journal.undoThose(func(s step) bool { return s.Keys == nil || !c.Own }); err != nil {
		if !l.journal.onlyKeys() {
			return nil, fmt.Errorf("an earlier drill left something broken, and it cannot be undone: %w", err)
		}
		c.Note(fmt.Sprintf("an earlier drill left keys, and they cannot be removed: %v", err))
	}

	l.undoProcess, err = startUndoProcess(c.Self, c.State)
	return l, err
}

// errUnderWay returns the error for a state directory that another drill holds.
func errUnderWay(state string) error {
	return fmt.Errorf("another drill is under way with the state directory %s, of this stack or of one of its own (--own), and undoes what it does; wait for its end, or give one with --own another --state", state)
}

// lockPatience is how long lock tries: a process that only checks whether a drill is under way also
// holds the lock for a moment.
const lockPatience = 100 * time.Millisecond

// lock takes the drill's lock in a state directory. The kernel releases it when the process ends,
// however it ends.
func lock(state string) (f *os.File, err error) {
	clock.Within(lockPatience, lookEvery, func() bool {
		f, err = tryLock(state)
		return err == nil
	})
	return f, err
}

func tryLock(state string) (*os.File, error) {
	f, err := private.Open(filepath.Join(state, lockName), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, errUnderWay(state)
	}
	// The former holder may have removed the file meanwhile. A lock on a removed file keeps no
	// other drill out.
	mine, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(f.Name()); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	f.Close()
	return nil, errUnderWay(state)
}

// writeMarks writes into the lock file what other processes have to know: that the drill made the
// directory, which a killed earlier drill may have written, and that the drill has a stack of its
// own.
func (l *drillLock) writeMarks(own bool) error {
	said := ""
	if l.made || hasMadeMark(l.file) {
		said = madeMark
	}
	if own {
		said += supervise.OwnDrill
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(said), 0)
	return err
}

func hasMadeMark(lock *os.File) bool {
	mark := make([]byte, len(madeMark))
	n, _ := lock.ReadAt(mark, 0)
	return string(mark[:n]) == madeMark
}

// release releases the state directory. The undo process is dismissed first, while the lock still
// keeps other drills out.
func (l *drillLock) release() {
	if l.undoProcess != nil {
		l.undoProcess.dismiss()
	}
	if l.file != nil {
		unlock(l.file)
	}
}

// unlock releases the drill's lock. It removes the directory if a drill made it and it is empty.
func unlock(held *os.File) {
	made := hasMadeMark(held)
	os.Remove(held.Name())
	held.Close()
	if made {
		os.Remove(filepath.Dir(held.Name()))
	}
}
