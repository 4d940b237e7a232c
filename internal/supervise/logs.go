package supervise

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// A log that grows beyond logSize is set aside as .1, the one before it as .2,
// up to logKeep.
const (
	logSize  = 10 << 20 // bytes
	logKeep  = 3
	logEvery = 5 * time.Second
)

// rotateLogs keeps the logs small. Servers hold their logs open, so a full one
// is copied and then cut, not renamed: they append, and go on at the start.
// Lines written between the copy and the cut are lost.
func (s *Supervisor) rotateLogs(ctx context.Context) {
	ticker := time.NewTicker(logEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		logs, _ := filepath.Glob(s.dir.path("logs", "*.log"))
		for _, name := range logs {
			if err := rotate(name, logSize); err != nil {
				s.log.Error("cannot rotate a log", "error", err)
			}
		}
	}
}

// rotate sets a log aside when it is larger than size bytes.
func rotate(name string, size int64) error {
	info, err := os.Stat(name)
	if err != nil || info.Size() <= size {
		return err
	}
	// The copy comes first: on a full disk it fails, and must not cost the old
	// logs at each try.
	aside := name + ".new"
	if err := copyLog(name, aside); err != nil {
		os.Remove(aside)
		return err
	}
	for i := logKeep - 1; i >= 1; i-- {
		err := os.Rename(fmt.Sprintf("%s.%d", name, i), fmt.Sprintf("%s.%d", name, i+1))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := os.Rename(aside, name+".1"); err != nil {
		return err
	}
	return os.Truncate(name, 0)
}

func copyLog(name, aside string) error {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(aside, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return err
	}
	return to.Close()
}

// Tail is the last lines of a node's log; none when there is no log.
func Tail(stateDir, node string) []string {
	const most, lines = 8 << 10, 8 // bytes, lines
	f, err := os.Open(dir(stateDir).path(logFile(node)))
	if err != nil {
		return nil
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(size-most, 0), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, most))
	var last []string
	for _, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		if len(line) > 0 {
			last = append(last, string(line))
		}
	}
	return last[max(len(last)-lines, 0):]
}
