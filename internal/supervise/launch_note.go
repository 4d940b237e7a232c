package supervise

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"

	"holdfast/internal/machine"
)

// If a supervisor dies between the start of a process and its record, it leaves an unknown
// process that has the node's port. So each start is noted before, and the note is emptied when
// the record is written. The next supervisor finds the process by the traces of its start
// (machine.Trace), and writes the record. The note is overwritten in place, because that needs
// no room on a full disk.

// launchNote is the content of launch.json in a node's directory: a start that has no record yet.
// It is empty, without a token, if every start has its record.
type launchNote struct {
	// Token is in the environment of the process, as the value of launchVariable.
	Token string `json:"token"`
	// Since is when the note was written, in the unit of machine.ID.Start.
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

// noteLaunch notes a start, and returns a variable for the environment of the process. The note
// is for the death of the supervisor, not for a loss of power, so it is not synced to the disk.
func (n *node) noteLaunch() (variable string, err error) {
	ctx, host := n.sup.ctx, n.home()
	facts, err := host.Facts(ctx)
	l := launchNote{Token: rand.Text(), Since: facts.Now, Plan: n.sup.digest(*n.spec()), Address: n.spec().Address}
	return launchVariable + "=" + l.Token, errors.Join(err, host.writeLaunch(ctx, n.spec().Node, l))
}

func (h home) writeLaunch(ctx context.Context, node string, l launchNote) error {
	if err := h.MakeDir(ctx, inHome(node)); err != nil {
		return err
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return h.overwriteLaunch(ctx, node, b)
}

// overwriteLaunch writes a note over the former one.
func (h home) overwriteLaunch(ctx context.Context, node string, note []byte) error {
	padded := append(note, bytes.Repeat([]byte{' '}, max(0, launchSize-len(note)))...)
	return h.Write(ctx, machine.File{Name: inHome(node, launchFile), Mode: 0o600, Content: padded, InPlace: true})
}

// endLaunch empties the note of a start that has its record.
func (h home) endLaunch(ctx context.Context, node string) {
	// If this fails, the note is about a process that has a record, which does no harm.
	_ = h.overwriteLaunch(ctx, node, []byte("{}"))
}

// recordLaunched writes the records of processes that an earlier supervisor started and did not
// record. The caller holds the lock of the state directory.
func (h home) recordLaunched(ctx context.Context, log *slog.Logger) error {
	notes, err := h.Glob(ctx, inHome("*", launchFile))
	if err != nil {
		return err
	}
	for _, note := range notes {
		node := nodeOf(note)
		var l launchNote
		err := h.readJSON(ctx, note, &l)
		switch {
		case errors.As(err, new(*damagedError)): // the note was only half written, so nothing was started
			h.endLaunch(ctx, node)
			continue
		case err != nil:
			return err
		case l.Token == "":
			continue
		}
		alive, err := h.alive(ctx, node)
		if err != nil && !errors.As(err, new(*damagedError)) { // a damaged record is about no process
			return err
		}
		if !alive {
			found, err := h.Find(ctx, machine.Trace{Node: node, Variable: launchVariable + "=" + l.Token, Since: l.Since})
			if err != nil {
				return err
			}
			if len(found) > 0 {
				r := record{Process: found[0], Plan: l.Plan, Want: wantUp, Address: l.Address}
				if err := h.writeRecord(ctx, node, r); err != nil {
					return err
				}
				log.Warn("a process was found that the supervisor before has started and not written down", "node", node, "pid", found[0].PID)
			}
		}
		h.endLaunch(ctx, node)
	}
	return nil
}
