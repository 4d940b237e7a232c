package drill

import (
	"context"
	"time"

	"holdfast/internal/supervise"
)

// supervisor returns the supervisor as a node to kill or pause. It has no kind, which makes the
// signal go to the process alone: its process group may be that of a terminal.
func (fc *faultContext) supervisor(ctx context.Context) (supervise.NodeStatus, error) {
	st, err := fc.stack.status(ctx)
	return supervise.NodeStatus{Name: "supervisor", Host: st.Host, PID: st.Supervisor}, err
}

// restartSupervisorStep returns the step that makes a supervisor run again, on its host, after its
// death.
func (s *supervisedStack) restartSupervisorStep(n supervise.NodeStatus) step {
	const why = "the death of the supervisor"
	if s.hosts != nil {
		return s.startHostStep(s.hosts.hostOf(n), why+" on "+n.Host)
	}
	return step{Why: why, Command: s.command("up", "-d"), Limit: s.startLimit(), Supervised: s.state(), Running: s.state()}
}

var killSupervisor = fault{
	name: "kill-supervisor", about: "SIGKILL to the supervisor: every node outlives it, and the next one adopts them",
	course: true, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.supervisor(ctx)
		if err != nil {
			return err
		}
		// The next supervisor runs in the background, even if this one did not.
		if err := fc.undo(fc.stack.restartSupervisorStep(n)); err != nil {
			return err
		}
		if err := fc.kill(ctx, n); err != nil {
			return err
		}
		return sleep(ctx, time.Second)
	},
}
