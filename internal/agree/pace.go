package agree

import (
	"math"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// The times of the agreement, for hosts in one LAN; docs/architecture.md has what
// they were measured to do.
//
// Raft has one time-out for three things: how often a leader sends heartbeats,
// how long a member waits for one, and how long a candidate waits for votes. It
// also looks at the clock at random, so that a dead leader is replaced after one
// to three time-outs. Heartbeats are what a member costs at rest, so the time-out
// should be long, and short for a replacement. Therefore keepPace gives raft
// another time-out for each of the three, and has it look at the clock when it
// is due.
const (
	// leaderTimeout makes a leader send a heartbeat after a tenth to a fifth of it.
	leaderTimeout = 1500 * time.Millisecond
	// heartbeatGap is the longest time between two heartbeats.
	heartbeatGap = leaderTimeout / 5
	// silenceTimeout is how long the first of the others hears nothing of the leader
	// before it stands for election. Each further one waits a heartbeatGap longer,
	// since all stop hearing within one: two that stand at once would split the votes.
	// An election succeeds when a majority has given the leader up.
	silenceTimeout = 700 * time.Millisecond
	// candidateTimeout is how long a candidate waits for votes, at least.
	candidateTimeout = 500 * time.Millisecond
	// leaseTimeout is how long a leader goes on without hearing a majority. It is
	// shorter than silenceTimeout: the old leader stops before a new one begins.
	leaseTimeout = 450 * time.Millisecond
	// commitTimeout is half of how late the others hear at most that an entry
	// counts, when none follows it: how old what they know may be.
	commitTimeout = 500 * time.Millisecond
	// callTimeout is for one question to a member, with its write to the disk.
	callTimeout = 3 * time.Second
)

// keepPace gives raft the time-out for what this member is, until it stops.
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

// rank is this member's place among those that may follow a leader.
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

// setPace sets raft's time-outs. Raft looks at the clock at once when they become
// shorter.
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

// raftConfig is what raft starts with.
func (m *Member) raftConfig() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(m.store.id)
	conf.HeartbeatTimeout, conf.ElectionTimeout = candidateTimeout, candidateTimeout
	conf.LeaderLeaseTimeout, conf.CommitTimeout = leaseTimeout, commitTimeout
	conf.SnapshotThreshold, conf.SnapshotInterval, conf.TrailingLogs = snapshotEvery, snapshotInterval, trailingEntries
	conf.MaxAppendEntries = 16 // of MaxBatch each, in one question
	conf.ShutdownOnRemove = false
	conf.NotifyCh = m.notify
	conf.NoLegacyTelemetry = true
	conf.Logger = newLogger(m.stopping, m.cfg.Log)
	return conf
}
