package redis

import (
	"context"
	"holdfast/internal/redis/election"
	"sync"
	"time"
)

// A batch that only reads, and reads nothing new, takes no trip to the
// replicas. WAIT would make one: it asks them by a command in the replication
// stream (REPLCONF GETACK) whose answer does not cover itself, so the next WAIT
// finds them behind again (Redis 7.0, replication.c, replicationSendAck), but
// for those that have told of themselves since, which they do once a second.
//
// ROLE takes its place behind such a batch. It tells how far the master's stream
// is, and the batch has seen no more than that. It is on every other node when
// these say that they follow this master, which makes their offsets comparable,
// and have applied as much; they are asked after ROLE was answered, once for each
// proof, and a few times more when others write.
//
// That the master is one still rests on the last proof, as for every batch (see
// fence), and on two things more, since nobody confirms this batch. ROLE counts
// as many replicas as could be promoted: one that was, or follows another, has
// closed its connection. And when this batch is answered, the one before it, which
// the master has answered too, was sent not long ago (lately): one that stalled
// while it was replaced may look at its clients before it looks at the connections
// that have ended, but all that had ended by then it has seen.

// lately is how long ago that may have been. Between the promotion of a replica
// and another's turn to it lies more: a Sentinel does one after it has seen the
// other, at another tick (50 to 100 ms).
const lately = 30 * time.Millisecond

// maxAsks is how often the other nodes may be asked for one proof. Where others
// write all the time it helps nobody, and WAIT is cheaper.
const maxAsks = 4

// quick decides which batches do without WAIT. Its zero value lets none.
type quick struct {
	calm   bool      // since the last proof nothing spoke against it
	shared int64     // an offset that every other node was heard to have
	others int       // how many these were
	asks   int       // how often they may still be asked
	heard  time.Time // when the last batch was sent that the master has answered
}

// proved begins anew with a proof.
func (q *quick) proved() { *q = quick{calm: true, asks: max(q.asks, 1), heard: q.heard} }

// quickly says that a batch can do without WAIT, if ROLE bears it out.
func (s *session) quickly(batch []*operation) bool {
	others := s.w.monitor.short.Load().others
	switch {
	case len(batch) == 0 || len(s.done) > 0:
		return false
	case !s.quick.calm || time.Since(s.proven) >= proofEvery || time.Since(s.quick.heard) >= lately:
		return false
	case others == 0 || others < s.w.cfg.MinAcks || s.expect < others || !s.missed.IsZero():
		return false // some node is not in sync, and who is matters
	}
	for _, o := range batch {
		if o.writes {
			return false
		}
	}
	return true
}

// lasts says that the other nodes have what a batch has read. The master's ROLE
// behind it is at that offset and has that many replicas; ask asks the other nodes
// for the least offset among them.
func (q *quick) lasts(role Standing, replicas, others int, ask func() int64) bool {
	calm := q.calm && role.Master && replicas >= others
	q.calm = false
	switch {
	case !calm:
		return false
	case role.Offset <= q.shared:
		q.asks = min(q.asks+1, maxAsks)
	case q.asks == 0:
		return false
	default:
		q.asks--
		if q.shared, q.others = ask(), others; role.Offset > q.shared {
			return false
		}
	}
	q.calm = true
	return true
}

// lasts is quick.lasts for what this session's master said.
func (s *session) lasts(ctx context.Context, standing Standing, online int) bool {
	return s.quick.lasts(standing, online, s.w.monitor.short.Load().others, func() int64 {
		ctx, cancel := context.WithTimeout(ctx, s.w.slice())
		defer cancel()
		return s.w.monitor.shared(ctx, s.master)
	})
}

// shared asks every node but the master how much it has of the master's stream,
// and answers the least; 0 when one does not follow it or does not answer in
// time. It is no round: what Sentinels say would add nothing, and a slow one
// would hold every reader up.
func (m *monitor) shared(ctx context.Context, master string) int64 {
	now, _ := m.now()
	links := m.links.Load()
	if now.Master != master || links == nil {
		return 0
	}
	var questions sync.WaitGroup
	nodes := make([]election.Node, 0, len(now.Nodes))
	for _, n := range now.Nodes {
		if n.Address != master {
			nodes = append(nodes, election.Node{Address: n.Address})
		}
	}
	for i := range nodes {
		n := &nodes[i]
		l := (*links)[n.Address]
		if l == nil || l.silent.Load() {
			continue
		}
		questions.Go(func() {
			// The monitor may close the link meanwhile: that is no answer.
			answer, err := l.Do(ctx, l.B().Role().Build()).ToArray()
			if err == nil {
				var s Standing
				s, _, n.Answered = parseRole(answer)
				n.Master, n.Follows, n.Linked, n.Offset = s.Master, s.MasterAddress, s.Linked, s.Offset
			}
		})
	}
	questions.Wait()
	if len(nodes) < now.Others() {
		return 0
	}
	return election.InCommon(nodes, master)
}
