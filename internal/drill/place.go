package drill

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/private"
	"holdfast/internal/supervise"
)

// place is a drill's hold on a state directory: one drill at a time, its
// journal, and the undertaker that undoes when it is killed.
type place struct {
	dir        string
	made       bool // the directory was not there: the lock has madeMark
	lock       *os.File
	journal    *journal
	undertaker *undertaker
}

const (
	lockName    = supervise.DrillLock
	journalName = "drill-undo.json"
	madeMark    = "the directory is the drill's\n"
)

// takePlace makes this the one drill of the stack, and undoes what an earlier
// one has left. Keys that it cannot remove are in nobody's way: it tells of them
// by Config.Note. A drill with a stack of its own does not look for them.
func takePlace(c Config) (_ *place, err error) {
	p := &place{dir: c.State}
	if _, err := os.Stat(c.State); errors.Is(err, os.ErrNotExist) {
		p.made = true
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	// What is in it is carried out, as whoever runs the drill.
	if err := private.CheckDir(c.State); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.leave()
		}
	}()
	if p.lock, err = lock(c.State); err != nil {
		return nil, err
	}
	if err := p.mark(c.Own); err != nil {
		return nil, err
	}
	if p.journal, err = openJournal(filepath.Join(c.State, journalName)); err != nil {
		return nil, err
	}
	if err := p.journal.undoThose(func(s step) bool { return s.Keys == nil || !c.Own }); err != nil {
		if !p.journal.onlyKeys() {
			return nil, fmt.Errorf("an earlier drill left something broken, and it cannot be undone: %w", err)
		}
		c.Note(fmt.Sprintf("an earlier drill left keys, and they cannot be removed: %v", err))
	}
	p.undertaker, err = startUndertaker(c.Self, c.State)
	return p, err
}

// errUnderWay says that somebody else has the drill's place.
func errUnderWay(state string) error {
	return fmt.Errorf("another drill is under way with the state directory %s, of this stack or of one of its own (--own), and undoes what it does; wait for its end, or give one with --own another --state", state)
}

// lockPatience is how long the place is tried for: who only looks whether a
// drill has it holds it for a moment, too.
const lockPatience = 100 * time.Millisecond

// lock takes the drill's place in a state directory. The kernel gives it back
// when the process ends, however it ends.
func lock(state string) (f *os.File, err error) {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lookEvery) {
		if f, err = tryLock(state); err == nil || time.Now().After(deadline) {
			return f, err
		}
	}
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
	// Whoever had it before has removed the file, perhaps: a lock on a file
	// that is gone keeps nobody out.
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

// mark writes into the lock what others are to know: that the directory is the drill's, as an
// earlier one that was killed may have said, and that the drill has a stack of its own.
func (p *place) mark(own bool) error {
	said := ""
	if p.made || hasMadeMark(p.lock) {
		said = madeMark
	}
	if own {
		said += supervise.OwnDrill
	}
	if err := p.lock.Truncate(0); err != nil {
		return err
	}
	_, err := p.lock.WriteAt([]byte(said), 0)
	return err
}

func hasMadeMark(lock *os.File) bool {
	mark := make([]byte, len(madeMark))
	n, _ := lock.ReadAt(mark, 0)
	return string(mark[:n]) == madeMark
}

// leave gives the state directory back. The undertaker ends first: the lock
// says that it has nothing to do.
func (p *place) leave() {
	if p.undertaker != nil {
		p.undertaker.dismiss()
	}
	if p.lock != nil {
		unlock(p.lock)
	}
}

// unlock gives the drill's place back, and takes the directory away if the
// drill has made it and nothing is in it.
func unlock(held *os.File) {
	made := hasMadeMark(held)
	os.Remove(held.Name())
	held.Close()
	if made {
		os.Remove(filepath.Dir(held.Name()))
	}
}
