package supervise

import (
	"context"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// Look tells the status of a stack that no supervisor answers for, from what
// the last one wrote down. It changes nothing. A node is up when its process
// is alive: nobody asks it for its health.
func Look(s stack.Stack, baseDir, stateDir string) (Status, error) {
	ctx, all := context.Background(), hostsAt(stateDir)
	p, err := Preview(s, baseDir, stateDir)
	if err != nil {
		return Status{}, err
	}
	b := newBoard(p)
	b.enter("")
	for _, n := range b.snapshot().Nodes {
		r, err := all.with(ctx, n.Name).readRecord(ctx, n.Name)
		if err != nil {
			return Status{}, err
		}
		alive, err := all.with(ctx, n.Name).Alive(ctx, r.Process)
		if err != nil {
			return Status{}, err
		}
		b.update(n.Name, func(st *NodeStatus) {
			if !alive {
				// Of one that has ended since, nobody knows when.
				if st.Since = (time.Time{}); r.State == Down {
					st.Since = r.Since
				}
				return
			}
			st.State, st.PID = Up, r.Process.PID
			if r.Want == wantPaused {
				st.State = Paused
			}
			st.Restarts, st.Crashes = r.Restarts, r.Crashes
			if !r.Since.IsZero() {
				st.Since = r.Since
			}
		})
	}
	st := b.snapshot()
	st.Ready = false // nobody knows
	st.Backup, _ = LastBackup(stateDir)
	st.Backup.Next = time.Time{} // nobody takes one
	return st, nil
}

// Kept reports whether a state directory has anything of a stack: its ports and
// secrets, or nodes with their data.
func Kept(stateDir string) bool {
	ctx, here := context.Background(), hostsAt(stateDir).here
	return here.has(ctx, keptFile) || here.has(ctx, "nodes")
}

// Running reports whether any node of the stack in a state directory has a
// process, as far as the last supervisor wrote down. A stack that was taken
// down, or purged, has none.
func Running(stateDir string) (bool, error) {
	return hostsAt(stateDir).anyAlive(context.Background(), anyKind)
}

// Preview is the plan that 'up' would carry out, with the ports that the stack
// has or would be given, and placeholders for its secrets.
func Preview(s stack.Stack, baseDir, stateDir string) (plan.Plan, error) {
	k, err := dirAt(stateDir).readKept()
	if err != nil {
		return plan.Plan{}, err
	}
	k.Secrets = plan.Placeholders(s)
	facts, each, err := hostsAt(stateDir).facts(context.Background(), s, baseDir, k)
	if err != nil {
		return plan.Plan{}, err
	}
	return plan.Make(s, facts, each)
}

// Secrets are the passwords of a stack that was up at some time. They are for
// its owner alone, who may read the file that has them.
func Secrets(stateDir string) (plan.Secrets, error) {
	k, err := dirAt(stateDir).readKept()
	return k.Secrets, err
}
