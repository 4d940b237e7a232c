package discovery

import (
	"context"
	"sync"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/election"
)

// Shared asks every node but the master for its offset in the master's stream, and returns
// the least; 0 if one does not follow the master or does not reply in time. The Sentinels
// are not asked: they would add nothing, and a slow one would hold every reader up.
func (m *Monitor) Shared(ctx context.Context, master string) int64 {
	now, _ := m.Now()
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
				s, _, n.Answered = ParseRole(answer)
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

// Replying returns clients of the nodes that replied to the last question, by address.
func (m *Monitor) Replying() map[string]*conn.Client {
	links := m.links.Load()
	if links == nil {
		return nil
	}
	nodes := make(map[string]*conn.Client, len(*links))
	for addr, l := range *links {
		if !l.silent.Load() {
			nodes[addr] = l.Client
		}
	}
	return nodes
}
