package drill

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"holdfast/internal/process"
)

var killSupervisor = fault{
	name: "kill-supervisor", about: "SIGKILL to the supervisor: every node outlives it, and the next one adopts them",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error {
		st, err := s.stack.status(ctx)
		if err != nil {
			return err
		}
		id, err := process.Identify(st.Supervisor)
		if err != nil {
			return fmt.Errorf("the supervisor (pid %d) ended before it was killed", st.Supervisor)
		}
		// The next supervisor runs in the background, however this one was
		// started.
		if err := s.undo(step{Why: "the death of the supervisor", Command: s.stack.command("up", "-d"), Supervised: s.stack.state}); err != nil {
			return err
		}
		s.say("killing the supervisor")
		s.blow("supervisor")
		// Its group is a terminal's, perhaps: it alone.
		if err := process.Signal(id, syscall.SIGKILL, false); err != nil {
			return fmt.Errorf("kill the supervisor: %w", err)
		}
		if err := await(ctx, "the supervisor's end", 5*time.Second, func() bool { return !process.Alive(id) }); err != nil {
			return err
		}
		s.evidence("the supervisor (pid %d) ended by SIGKILL", id.PID)
		return sleep(ctx, time.Second)
	},
}
