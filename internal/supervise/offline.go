package supervise

import (
	"context"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// OfflineStatus returns the status of a stack without a supervisor, from what the last supervisor
// recorded. It changes nothing. A node counts as up if its process is alive; its health is not
// checked.
func OfflineStatus(s stack.Stack, baseDir, stateDir string) (Status, error) {
	ctx, all := context.Background(), hostsAt(stateDir)
	p, err := Preview(s, baseDir, stateDir)
	if err != nil {
		return Status{}, err
	}

	b := newStatusBoard(p)
	b.enter("")
	for _, n := range b.snapshot().Nodes {
		r, err := all.hostWithRecord(ctx, n.Name).readRecord(ctx, n.Name)
		if err != nil {
			return Status{}, err
		}
		alive, err := all.hostWithRecord(ctx, n.Name).Alive(ctx, r.Process)
		if err != nil {
			return Status{}, err
		}
		b.update(n.Name, func(st *NodeStatus) {
			if !alive {
				// Nobody knows when the process of a node that was up has ended.
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
	st.Backup.Next = time.Time{} // without a supervisor no backup is made
	return st, nil
}

// HasState reports whether a state directory has anything of a stack: its ports and secrets, or
// nodes with their data.
func HasState(stateDir string) bool {
	ctx, here := context.Background(), hostsAt(stateDir).here
	return here.has(ctx, stateFile) || here.has(ctx, "nodes")
}

// Running reports whether any node of the stack in a state directory has a process, according
// to the records of the last supervisor. A stack that was taken down or purged has none.
func Running(stateDir string) (bool, error) {
	return hostsAt(stateDir).anyAlive(context.Background(), everyNode)
}

// Preview returns the plan that 'up' would carry out, with the ports that the stack has or
// would be given, and with placeholders for its secrets.
func Preview(s stack.Stack, baseDir, stateDir string) (plan.Plan, error) {
	k, err := dirAt(stateDir).readState()
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

// Secrets returns the passwords of a stack that was up at some time. They are only for its
// owner, who may read the file that has them.
func Secrets(stateDir string) (plan.Secrets, error) {
	k, err := dirAt(stateDir).readState()
	return k.Secrets, err
}
