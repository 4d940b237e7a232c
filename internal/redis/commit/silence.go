package commit

import (
	"time"

	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/operation"
)

// loss returns how the answers that are missing were lost.
func (s *Session) loss() operation.Loss {
	silent := s.silent()
	replaced := silent && s.replaced()
	return operation.Loss{Node: s.Master, Silent: silent && !replaced, Left: replaced || s.wire != nil && s.wire.Left.Load()}
}

// replaced reports whether the node is no master any more, and has replied to the
// monitor at once as long as the operations were under way. Then the session ended
// because of a switchover, and nothing has silenced the node. The session may be the
// first to know, by the node's refusals. And a new master is named some time before the
// Sentinels turn the old one into its replica.
func (s *Session) replaced() bool {
	now, _ := s.w.monitor.Now()
	if now.DownAfter < discovery.SteadyInterval { // the Sentinels are quicker than the rounds
		return false
	}
	node, another := now.Node(s.Master), now.Master != "" && now.Master != s.Master
	return node.Answered && (s.answered || another || !node.Master) && node.SilentAt.Before(s.began)
}

// silent reports whether the session's connection ended because the node did not reply
// for some time. The connection may also end with the node itself, or when another node
// becomes the master in a switchover.
func (s *Session) silent() bool {
	return s.wire == nil || !s.wire.Left.Load() && s.took >= max(leastSilence, 2*s.w.slice())
}

// leastSilence is how long a node without a reply had the commands, at the least, if
// these may have silenced it. It is longer than a WAIT takes, and shorter than the time
// after which Sentinels replace a master.
const leastSilence = 100 * time.Millisecond
