package commit

import (
	"context"

	"holdfast/internal/redis/ack"
)

// covered reports whether the other nodes have what a batch without WAIT has read; said is
// the master's ROLE behind it. They are asked if that is not known.
func (s *Session) covered(ctx context.Context, said ack.Role) bool {
	others := s.w.monitor.State().Others
	covered, probe := s.elision.Covered(said, others)
	if !probe {
		return covered
	}
	ctx, cancel := context.WithTimeout(ctx, s.w.slice())
	defer cancel()
	return s.elision.Probed(said, others, s.w.monitor.Shared(ctx, s.Master))
}
