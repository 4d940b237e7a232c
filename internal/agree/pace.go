package agree

import (
	"math"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// The time-outs of the agreement, for hosts in one LAN. docs/decisions/042 has
// the measurements.
//
// Raft has one time-out for three things: how often a leader sends heartbeats,
// how long a member waits for one, and how long a candidate waits for votes. It
// also checks its time-out at random times, so a dead leader is replaced only
// after one to three time-outs. Heartbeats are the cost of a member at rest and
// ask for a long time-out; a quick replacement asks for a short one. Therefore
// keepPace gives raft another time-out for each of the three, and makes raft check
// it at the right moment.
const (
	// leaderTimeout is raft's time-out at the leader. Raft sends a heartbeat after a
	// tenth to a fifth of it.
	leaderTimeout = 1500 * time.Millisecond
	// heartbeatGap is the longest time between two heartbeats.
	heartbeatGap = leaderTimeout / 5
	// silenceTimeout is how long the first of the other members goes without the
	// leader before it stands for election. Each further one (rank) waits a
	// heartbeatGap longer, because two that stand at once would split the votes: all
	// of them miss the leader within one heartbeatGap. An election succeeds when a
	// majority has given the leader up.
	silenceTimeout = 700 * time.Millisecond
	// candidateTimeout is how long a candidate waits for votes, at least.
	candidateTimeout = 500 * time.Millisecond
	// leaseTimeout is how long a leader goes on without answers of a majority. It is
	// shorter than silenceTimeout, so that the old leader stops before a new one
	// begins.
	leaseTimeout = 450 * time.Millisecond
	// commitTimeout bounds how late the other members hear that an entry was agreed
	// on, if no entry follows it: after twice this time at most. So it bounds how old
	// their documents may be.
	commitTimeout = 500 * time.Millisecond
	// callTimeout limits one request to a member, including its write to the disk.
	callTimeout = 3 * time.Second
)

// keepPace keeps raft's time-out at that of this member's role (leader, follower
// or candidate), until the member stops.
func (m *Member) keepPace() {
	for m.stopping.Err() == nil {
		m.mu.Lock()
		leads, turned := m.leads, m.turned
		m.mu.Unlock()

		pace, pause := candidateTimeout, candidateTimeout
		if leads {
			pace, pause = leaderTimeout, math.MaxInt64
		} else if _, leader := m.raft.LeaderWithID(); leader != "" {
			limit := silenceTimeout + heartbeatGap*time.Duration(m.rank(string(leader)))
			if left := limit - time.Since(m.raft.LastContact()); left > 0 {
				pace, pause = limit, left
			}
		}
		m.setPace(pace)

		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-turned:
		case <-m.stopping.Done():
		}
		timer.Stop()
	}
}

// rank returns this member's position, from 0, among the voters besides the
// leader.
func (m *Member) rank(leader string) int {
	var ids []string
	for _, peer := range m.Members() {
		if peer.Voter && peer.ID != leader {
			ids = append(ids, peer.ID)
		}
	}
	slices.Sort(ids)
	return max(0, slices.Index(ids, m.store.id))
}

// setPace sets raft's heartbeat and election time-outs. Raft checks them at once
// when they become shorter.
func (m *Member) setPace(pace time.Duration) {
	conf := m.raft.ReloadableConfig()
	if conf.HeartbeatTimeout == pace {
		return
	}
	conf.HeartbeatTimeout, conf.ElectionTimeout = pace, pace
	if err := m.raft.ReloadConfig(conf); err != nil {
		m.cfg.Log.Warn("the time-outs of the agreement stay as they were", "error", err)
	}
}

// raftConfig returns the configuration that raft starts with.
func (m *Member) raftConfig() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(m.store.id)
	conf.HeartbeatTimeout, conf.ElectionTimeout = candidateTimeout, candidateTimeout
	conf.LeaderLeaseTimeout, conf.CommitTimeout = leaseTimeout, commitTimeout
	conf.SnapshotThreshold, conf.SnapshotInterval, conf.TrailingLogs = snapshotEvery, snapshotInterval, trailingEntries
	conf.MaxAppendEntries = 16 // in one request; each has up to MaxBatch bytes
	conf.ShutdownOnRemove = false
	conf.NotifyCh = m.notify
	conf.NoLegacyTelemetry = true
	conf.Logger = newLogger(m.stopping, m.cfg.Log)
	return conf
}
