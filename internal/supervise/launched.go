package supervise

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"holdfast/internal/logs"
	"holdfast/internal/private"
	"holdfast/internal/process"
)

// A supervisor that dies between the start of a process and its record would leave a
// process that nobody knows of, and that has the node's port. So a start is noted
// before, and the note is emptied when the record is written. The next supervisor finds
// the process by what it was started with, and writes the record. The file stays, and is
// written over where it is: that needs no room on a disk that is full.

// launch is launch.json in a node's directory: a start that has no record yet. It has no
// token where every start has its record.
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
	launchSize     = 1024 // bytes of the file
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
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return d.overwriteLaunch(node, b)
}

// overwriteLaunch writes the note over the one before.
func (d dir) overwriteLaunch(node string, note []byte) error {
	f, err := private.Open(d.path("nodes", node, launchFile), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	padded := append(note, bytes.Repeat([]byte{' '}, max(0, launchSize-len(note)))...)
	_, err = f.WriteAt(padded, 0)
	return errors.Join(err, f.Close())
}

// endLaunch empties the note of a start that has its record.
func (d dir) endLaunch(node string) {
	// One that stays names a process that has a record.
	_ = d.overwriteLaunch(node, []byte("{}"))
}

// recordLaunched writes the records of processes that a supervisor before has started
// and not written down. The caller has the state directory.
func (d dir) recordLaunched(log *slog.Logger) error {
	notes, _ := filepath.Glob(d.path("nodes", "*", launchFile))
	for _, note := range notes {
		node := filepath.Base(filepath.Dir(note))
		var l launch
		err := d.readJSON(filepath.Join("nodes", node, launchFile), &l)
		switch {
		case errors.As(err, new(*fs.PathError)):
			return err
		case err != nil: // half of it was written, and nothing was started
			d.endLaunch(node)
			continue
		case l.Token == "":
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
