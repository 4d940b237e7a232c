package supervise

import (
	"context"
	"fmt"
	"time"
)

// startLimit is how long a node without a limit of its own may delay the next stage of a start.
// A replica that copies much data, or a master that loads it, takes time; the web nodes hold
// requests until then.
const startLimit = 15 * time.Second

// askedLimit is how long an operator waits for a node without a limit of its own that was
// started alone. It is longer than a failover takes, and than most data take to load.
var askedLimit = time.Minute

// bringUp sends a node a command to start or restart, and waits until the node is ready, for at
// most limit. The time that a restart takes before the new start does not count. When the limit
// has passed, bringUp returns an error and the node goes on starting.
func (s *Supervisor) bringUp(ctx context.Context, n *node, c command, limit time.Duration) error {
	patience := limit
	if c.action == ActRestart {
		patience += s.rotationLimit() + drainTime(*n.spec()) + n.spec().Grace // see terminate
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	before, _ := s.statusBoard.snapshot().Node(n.spec().Node)
	s.tasks.Go(func() {
		poll(limited, func() bool {
			st, _ := s.statusBoard.snapshot().Node(n.spec().Node)
			// The limit of the former process does not count.
			return !st.Until.IsZero() && !st.Until.Equal(before.Until) && time.Now().After(st.Until)
		})
		cancel()
	})
	err := s.send(limited, n.spec().Node, c)
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	hint := ""
	if n.spec().Start > 0 {
		hint = fmt.Sprintf(" (apps.%s.health.start, which a program that needs longer has to raise)", n.spec().App)
	}
	st, _ := s.statusBoard.snapshot().Node(n.spec().Node)
	return fmt.Errorf("%s is not ready after %v%s: %s", n.spec().Node, limit, hint, st.Detail)
}
