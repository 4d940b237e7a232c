package cluster

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/pubsub"
	"holdfast/internal/redis/replica"
)

// clusterShard is a master of a cluster and its replicas, as long as they own slots. It has all
// that a single replicated Redis has: a monitor, which knows which of its nodes is the master, a
// writer and readers.
type clusterShard struct {
	cluster *Cluster
	monitor *discovery.Monitor
	writer  *commit.Writer
	readers *replica.Readers
	changes *pubsub.Broker // of its keys
	end     func()         // ends it, and waits for its end
	gone    <-chan struct{}
	missing int // looks in a row that did not find it; run's

	mu      sync.Mutex
	id      string          // of the node that is its master, as the map has it
	members map[string]bool // the ids of its nodes
}

// patienceInCluster takes the place of the Sentinels' down-after when a replica is silent (see
// ack.InSync). How long the nodes of a cluster wait before they consider one down
// (cluster-node-timeout) only an administrator can ask. It is half of the time that a request waits
// at most, so that no request loses its answer to a replica that hangs.
func patienceInCluster(cfg config.Config) time.Duration { return cfg.Hold / 2 }

// newShard starts a shard, which end ends.
func newShard(ctx context.Context, c *Cluster) *clusterShard {
	cfg := c.cfg
	cfg.RecordDB = -1 // a cluster has one database
	s := &clusterShard{cluster: c, monitor: discovery.New(cfg.MonitorConfig())}
	s.monitor.Voters = s.ask
	s.writer, s.readers = commit.New(cfg, s.monitor), replica.New(cfg, s.monitor)
	s.writer.InCluster(s.anySlot)
	s.changes = pubsub.NewBroker(cfg.Options(), cfg.Logger, s.monitor)
	ctx, cancel := context.WithCancel(ctx)
	s.gone = ctx.Done()
	var parts sync.WaitGroup
	parts.Go(func() { s.monitor.Run(ctx) })
	parts.Go(func() { s.writer.Run(ctx) })
	parts.Go(func() { s.readers.Run(ctx) })
	parts.Go(func() { s.changes.Run(ctx) })
	s.end = func() {
		cancel()
		parts.Wait()
	}
	return s
}

// know takes in what the map tells of the shard. A node that was a member stays one unless it
// belongs to another shard now: a master that died is a member before it comes back.
func (s *clusterShard) know(id string, own int, members []map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
	if s.members == nil {
		s.members = map[string]bool{}
	}
	for i, other := range members {
		for member := range other {
			if i != own && !members[own][member] {
				delete(s.members, member)
			}
		}
	}
	for member := range members[own] {
		s.members[member] = true
	}
}

// name returns the id of the node that is the shard's master, as the map has it.
func (s *clusterShard) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// has reports whether a node is a member.
func (s *clusterShard) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[id]
}

// master returns the address of the present master; empty: there is none.
func (s *clusterShard) master() string {
	now, _ := s.monitor.Now()
	return now.Master
}

// ask asks the masters of the cluster what a Sentinel would be asked. It asks only them, because a
// failover takes the votes of most masters that own slots, each of which considers the old one
// failed (specification, "Replica election and promotion"). So in any majority of them that
// answers, one knows of it. A majority of all nodes could be on the wrong side of a cut, with
// enough replicas there.
func (s *clusterShard) ask(ctx context.Context) []election.SentinelReply {
	s.cluster.mu.Lock()
	voters := s.cluster.masters
	s.cluster.mu.Unlock()
	words := make([]election.SentinelReply, len(voters))
	var questions sync.WaitGroup
	for i, l := range voters {
		questions.Go(func() {
			if view, err := askNodes(ctx, l); err == nil {
				words[i] = s.word(view)
			}
		})
	}
	questions.Wait()
	return words
}

// word returns what a node's view tells of this shard.
func (s *clusterShard) word(view []clusterNode) election.SentinelReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := election.SentinelReply{Answered: true, DownAfter: patienceInCluster(s.cluster.cfg)}
	var master *clusterNode
	for i := range view {
		n := &view[i]
		if s.members[n.id] && n.master && len(n.slots) > 0 && (master == nil || n.epoch > master.epoch) {
			master = n
		}
	}
	if master == nil {
		return w // it owns nothing any more
	}
	w.Master, w.Doubts = master.addr, master.down
	for _, n := range view {
		// Also a node that was its master and has not come back as a replica yet.
		alone := n.master && len(n.slots) == 0 && s.members[n.id]
		if n.follows == master.id || alone {
			w.Replicas = append(w.Replicas, n.addr)
		}
	}
	return w
}

// ended reports whether the shard owns no slots any more, or the client has ended.
func (s *clusterShard) ended() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// anySlot returns the first slot that the shard owns; 0 if it owns none.
func (s *clusterShard) anySlot() int {
	t, _ := s.cluster.now()
	for slot := range hashslot.Count {
		if t.at(slot) == s {
			return slot
		}
	}
	return 0
}
