package drill

import (
	"context"
	"time"

	"holdfast/internal/supervise"
)

// supervisor is the supervisor as a scene kills and pauses it: a process that is
// of no kind of node, and alone, since its group may be a terminal's.
func (s *scene) supervisor(ctx context.Context) (supervise.NodeStatus, error) {
	st, err := s.stack.status(ctx)
	return supervise.NodeStatus{Name: "supervisor", PID: st.Supervisor}, err
}

var killSupervisor = fault{
	name: "kill-supervisor", about: "SIGKILL to the supervisor: every node outlives it, and the next one adopts them",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error {
		n, err := s.supervisor(ctx)
		if err != nil {
			return err
		}
		// The next supervisor runs in the background, however this one was
		// started.
		if err := s.undo(step{Why: "the death of the supervisor", Command: s.stack.command("up", "-d"), Limit: s.stack.startLimit(), Supervised: s.stack.state, Running: s.stack.state}); err != nil {
			return err
		}
		if err := s.kill(ctx, n); err != nil {
			return err
		}
		return sleep(ctx, time.Second)
	},
}
