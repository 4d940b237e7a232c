package redis

import (
	"context"
	"sync"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/election"
)

// covered reports whether the other nodes have what a batch without WAIT has read; said is
// the master's ROLE behind it. They are asked if that is not known.
func (s *session) covered(ctx context.Context, said ack.Role) bool {
	others := s.w.monitor.short.Load().others
	covered, probe := s.elision.Covered(said, others)
	if !probe {
		return covered
	}
	ctx, cancel := context.WithTimeout(ctx, s.w.slice())
	defer cancel()
	return s.elision.Probed(said, others, s.w.monitor.shared(ctx, s.master))
}

// shared asks every node but the master for its offset in the master's stream, and returns
// the least; 0 if one does not follow the master or does not reply in time. The Sentinels
// are not asked: they would add nothing, and a slow one would hold every reader up.
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
