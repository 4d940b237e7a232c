package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"holdfast/internal/private"
)

// store is the log files of one node. It is not safe for concurrent use.
type store struct {
	path string
	size int64 // largest size of a file

	file   *os.File
	length int64     // of the file
	looked time.Time // when the file was last known to be at its path

	missed int   // lines that could not be stored
	why    error // the last reason
}

func newStore(path string) *store { return &store{path: path, size: fileSize} }

// write stores whole lines, or counts them as missed. After a failure, the next successful write
// begins with a line that reports the missed ones.
func (s *store) write(batch []byte, lines int) {
	if err := s.writeAfterNote(batch); err != nil {
		s.missed, s.why = s.missed+lines, err
	}
}

func (s *store) writeAfterNote(batch []byte) error {
	if err := s.prepare(int64(len(batch))); err != nil {
		return err
	}
	if s.missed > 0 {
		note := appendStamp(nil, time.Now())
		note = fmt.Appendf(note, "holdfast: %d lines before this one are lost: %v\n", s.missed, s.why)
		note = append(note[:min(len(note), noteRoom)-1], '\n')
		if err := s.append(note); err != nil {
			return err
		}
		s.missed = 0
	}
	return s.append(batch)
}

// append writes to the file all or nothing.
func (s *store) append(b []byte) error {
	n, err := s.file.Write(b)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, s.file.Truncate(s.length))
		}
		return err
	}
	s.length += int64(n)
	return nil
}

// noteRoom is the room, in bytes, that is left in a file for the line about lost lines.
const noteRoom = 1 << 10

// prepare opens a file that has room for that many bytes.
func (s *store) prepare(more int64) error {
	if now := time.Now(); s.file != nil && now.Sub(s.looked) > time.Second {
		s.look()
		s.looked = now
	}
	if s.file == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.length > 0 && s.length+more+noteRoom > s.size {
		if err := s.rotate(); err != nil {
			return err
		}
		return s.open()
	}
	return nil
}

// look closes the file if it is no longer at its path, and notices if it was emptied.
func (s *store) look() {
	mine, err := s.file.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(s.path); err == nil && os.SameFile(mine, there) {
			s.length = there.Size()
			return
		}
	}
	s.close()
}

func (s *store) open() error {
	f, err := private.Open(s.path, os.O_CREATE|os.O_RDWR|os.O_APPEND)
	if err != nil && isDevice(s.path) {
		f, err = os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.file, s.length, s.looked = f, info.Size(), time.Now()
	return s.mend()
}

// isDevice reports whether a log's path leads to a device: a user who wants no log may link it to
// /dev/null.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// mend ends a line in which the last writer was killed.
func (s *store) mend() error {
	var last [1]byte
	if s.length == 0 {
		return nil
	}
	if _, err := s.file.ReadAt(last[:], s.length-1); err != nil || last[0] == '\n' {
		return nil // a file that cannot be read can still be written to
	}
	return s.append([]byte{'\n'})
}

// rotate renames the files, so that a new one can begin.
func (s *store) rotate() error {
	s.close()
	for i := fileKeep - 1; i >= 0; i-- {
		if err := os.Rename(aside(s.path, i), aside(s.path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s *store) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// aside returns the path of a file that was renamed i times.
func aside(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Log is the log of a process that stores its own lines, such as the supervisor. It opens its file
// at the first line. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	store *store
}

// NewLog returns the log with that name in a stack's directory of logs.
func NewLog(state, name string) *Log { return &Log{store: newStore(File(state, name))} }

// Write stores whole lines.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := cutter{emit: l.store.write}
	c.add(b, time.Now())
	c.close()
	return len(b), nil // lost lines are counted, and reported later
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store.close()
	return nil
}
