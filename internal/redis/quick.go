package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// A batch that only reads, and reads nothing new, takes no trip to the
// replicas. WAIT would make one each time: it asks the replicas by a command in
// the replication stream (REPLCONF GETACK), whose answer does not cover itself,
// so the next WAIT finds them behind again and asks again (Redis 7.0,
// replication.c, replicationSendAck). So ROLE takes its place behind such a
// batch, and tells how far the master is. What it shows is on every other node
// when they were heard to be as far: they are asked themselves, once after each
// proof, and after another node's write. That the master is one still is what
// the last proof says, as for every batch (see fence), and that ROLE counts as
// many replicas as could be promoted: one that follows another has closed its
// connection first.

// maxAsks is how often the other nodes may be asked between two proofs. Where
// others write all the time it helps nobody, and WAIT is cheaper.
const maxAsks = 4

// quick says that a batch can do without WAIT, if ROLE bears it out.
func (s *session) quick(batch []*operation) bool {
	others := s.w.monitor.short.Load().others
	if !s.calm || time.Since(s.proven) >= proofEvery || len(s.done) > 0 || !s.missed.IsZero() || others == 0 || s.expect < others || others < s.w.cfg.MinAcks {
		return false
	}
	for _, o := range batch {
		if o.writes {
			return false
		}
	}
	return len(batch) > 0
}

// lasts says that every other node has what a batch has read, by the answer to
// the ROLE behind it.
func (s *session) lasts(ctx context.Context, role rueidis.RedisResult) bool {
	s.calm = false
	answer, err := role.ToArray()
	if err != nil || len(answer) < 3 {
		return false
	}
	offset, err := answer[1].AsInt64()
	if err != nil {
		return false // a replica's second word is a host
	}
	replicas, err := answer[2].ToArray()
	if err != nil || len(replicas) < s.w.monitor.short.Load().others {
		return false
	}
	switch {
	case offset <= s.shared:
		s.asks = min(s.asks+1, maxAsks)
	case s.asks == 0:
		return false
	default:
		s.asks--
		ctx, cancel := context.WithTimeout(ctx, s.w.slice())
		now, err := s.w.monitor.confirm(ctx)
		cancel()
		if err != nil || now.master != s.master {
			return false
		}
		if s.shared = now.shared(); offset > s.shared {
			return false
		}
	}
	s.calm = true
	return true
}

// shared is the offset that every other node has of the master's stream, by its
// own word; 0 when one does not follow the master or did not answer.
func (s snapshot) shared() int64 {
	least, followers := int64(0), 0
	for _, n := range s.nodes {
		switch {
		case n.addr == s.master:
			continue
		case !n.answered || n.master || !n.linked || n.follows != s.master:
			return 0
		case followers == 0 || n.offset < least:
			least = n.offset
		}
		followers++
	}
	if followers < s.others() {
		return 0
	}
	return least
}
