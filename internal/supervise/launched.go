package supervise

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"holdfast/internal/logs"
	"holdfast/internal/process"
)

// A supervisor that dies between the start of a process and its record would leave a
// process that nobody knows of, and that has the node's port. So a start is noted
// before, and the note is removed when the record is written. The next supervisor finds
// the process by what it was started with, and writes the record.

// launch is launch.json in a node's directory: a start that has no record yet.
type launch struct {
	// Token stands in the environment of the process, as launchVariable.
	Token string `json:"token"`
	// Since is when it was written, as process.Now.
	Since uint64 `json:"since"`
	// Plan and Address are as in the record.
	Plan    string `json:"plan"`
	Address string `json:"address"`
}

const (
	launchFile     = "launch.json"
	launchVariable = "HOLDFAST_LAUNCH"
)

// noteLaunch notes a start, and returns a variable for its environment. The note is for
// the death of the supervisor and not for a loss of power: it is not synced.
func (n *node) noteLaunch() (variable string, err error) {
	l := launch{Token: rand.Text(), Since: process.Now(), Plan: n.sup.digest(*n.spec()), Address: n.spec().Address}
	return launchVariable + "=" + l.Token, n.sup.dir.writeLaunch(n.spec().Node, l)
}

func (d dir) writeLaunch(node string, l launch) error {
	if err := os.MkdirAll(d.path("nodes", node), 0o700); err != nil {
		return err
	}
	return d.writeUnsynced(filepath.Join("nodes", node, launchFile), l)
}

// endLaunch removes the note of a start that has its record.
func (d dir) endLaunch(node string) {
	_ = os.Remove(d.path("nodes", node, launchFile)) // one that stays names a process that has a record
}

// recordLaunched writes the records of processes that a supervisor before has started
// and not written down. The caller has the state directory.
func (d dir) recordLaunched(log *slog.Logger) error {
	notes, _ := filepath.Glob(d.path("nodes", "*", launchFile))
	for _, note := range notes {
		node := filepath.Base(filepath.Dir(note))
		var l launch
		if err := d.readJSON(filepath.Join("nodes", node, launchFile), &l); err != nil || l.Token == "" {
			if errors.As(err, new(*fs.PathError)) {
				return err
			}
			d.endLaunch(node) // half of it was written, and nothing was started
			continue
		}
		if !d.alive(node) {
			found := process.Find(launchVariable+"="+l.Token, logs.Pipe(string(d), node), l.Since)
			if len(found) > 0 {
				r := record{Process: found[0], Plan: l.Plan, Want: wantUp, Address: l.Address}
				if err := d.writeRecord(node, r); err != nil {
					return err
				}
				log.Warn("a process was found that the supervisor before has started and not written down", "node", node, "pid", found[0].PID)
			}
		}
		d.endLaunch(node)
	}
	return nil
}
