package election

import (
	"cmp"
	"slices"
	"time"
)

// A won election of the Sentinels cannot be seen at the master. The leader carries it
// through even if the master replies again, and the leader may be the one Sentinel that
// cannot be heard, together with the replica that it chose. What can be seen are the votes.
// A leader has the votes of a majority before it promotes a node, and each other majority
// has a Sentinel in it that voted for that leader. A vote is for the master's next
// configuration. So a vote whose epoch is newer than the configuration's belongs to an
// election whose outcome is not known yet.
//
// Sentinels vote by the command with which they ask each other about a master (Redis 7.0,
// sentinel.c, sentinelVoteLeader). A vote is on the disk before it is told. A Sentinel that
// is restarted therefore still has the epoch, and no longer the leader.

// Vote is a Sentinel's last vote: in which epoch, and for which Sentinel, by its id.
type Vote struct {
	Epoch  int64
	Leader string
}

// noLeader stands for a leader that a Sentinel does not remember, or has never had.
const noLeader = "*"

// election is an election that Sentinels voted in.
type election struct {
	Vote
	// seen and round are when this process first heard of it. limit is how long after that
	// its leader may promote a node.
	seen  time.Time
	round uint64
	limit time.Duration
	// over is true when its leader promotes no node any more.
	over bool
}

// Elections are the elections that the Sentinels voted in lately, the newest last.
type Elections []election

// rememberedElections bounds Elections. A Sentinel tells only its last vote, so there are
// no more open elections than Sentinels.
const rememberedElections = 32

// Take learns from the replies of a round.
func (e *Elections) Take(words []SentinelReply, round uint64, now time.Time) {
	limit, calm := time.Duration(0), 0
	for _, w := range words {
		limit = max(limit, ElectionLimit(w.FailoverTimeout))
		if w.Calm {
			calm++
		}
	}

	// An election whose leader has a name is not over because all Sentinels are calm that
	// this process knows: it may not know the leader. No limit is told in a round without
	// replies, so the longest that was told counts.
	for i := range *e {
		known := &(*e)[i]
		known.limit = max(known.limit, limit)
		leads := func(w SentinelReply) bool { return w.Calm && w.ID != "" && w.ID == known.Leader }
		if known.Leader == noLeader && calm == len(words) || slices.ContainsFunc(words, leads) || now.Sub(known.seen) >= known.limit {
			known.over = true
		}
	}

	// Whether the leader is calm says nothing of a new election: it may have replied before
	// the election began.
	for _, w := range words {
		if w.Vote.Epoch == 0 || slices.ContainsFunc(*e, func(known election) bool { return known.Vote == w.Vote }) {
			continue
		}
		*e = append(*e, election{Vote: w.Vote, seen: now, round: round, limit: limit})
	}
	if more := len(*e) - rememberedElections; more > 0 {
		*e = slices.Delete(*e, 0, more)
	}
}

// Open returns the elections that may still promote a node, as far as is known after a
// round: those that are newer than the newest configuration that a Sentinel told in it.
func (e Elections) Open(words []SentinelReply) (open Elections) {
	config := int64(0)
	for _, w := range words {
		config = max(config, w.ConfigEpoch)
	}
	for _, known := range e {
		if !known.over && known.Epoch > config {
			open = append(open, known)
		}
	}
	return open
}

// Threaten reports whether one of the open elections may promote another node than the
// master. It may not if the master is the outcome of the last one, which the Sentinels
// announce about a second later. That is so if the master was promoted after all of them
// were first heard of, and they are one election, or the leader of the last one has chosen
// this master: what an earlier one does has a lower epoch, and is undone. A master that the
// Sentinels' majority names already (named, since the round namedSince) is the outcome of
// an election that is over.
func (e Elections) Threaten(master Node, named string, namedSince uint64, words []SentinelReply) bool {
	if len(e) == 0 {
		return false
	}
	if !master.Master || master.Since <= namedSince || master.Address == named {
		return true
	}
	if slices.ContainsFunc(e, func(open election) bool { return open.round > master.Since }) {
		return true
	}
	last := slices.MaxFunc(e, func(a, b election) int { return cmp.Compare(a.Epoch, b.Epoch) }).Epoch
	one := !slices.ContainsFunc(e, func(open election) bool { return open.Epoch != last })
	return !one && !slices.ContainsFunc(words, func(w SentinelReply) bool {
		return w.Promotes == master.Address && slices.ContainsFunc(e, func(open election) bool { return open.Vote == Vote{last, w.ID} })
	})
}

// Newest returns the master that the Sentinel with the newest configuration names. Among
// Sentinels with the same one, named comes first, which their majority names. If the result
// is another node, the majority has not heard of the last election yet, and will.
func Newest(words []SentinelReply, named string) (master string) {
	config := int64(-1)
	for _, w := range words {
		if w.Master != "" && (w.ConfigEpoch > config || w.ConfigEpoch == config && w.Master == named) {
			master, config = w.Master, w.ConfigEpoch
		}
	}
	return master
}

// ElectionLimit returns how long after a vote its leader may promote a replica at the
// latest. The leader has to be elected within 10 s, or the failover time-out if that is
// less, of its beginning, which it puts up to a second ahead. Then it may take the failover
// time-out to send the order, and once more until the replica has followed it (Redis 7.0,
// sentinel.c, sentinelFailoverWaitStart and what follows there). A last second is for its
// ticks. A leader that is stopped for longer than that goes on where it was.
func ElectionLimit(failoverTimeout time.Duration) time.Duration {
	return time.Second + min(10*time.Second, failoverTimeout) + 2*failoverTimeout + time.Second
}

// SentinelReply is what a Sentinel said in a round.
type SentinelReply struct {
	Answered  bool
	Err       error // why it did not answer
	Master    string
	Doubts    bool // it considers the master down, or is failing it over
	DownAfter time.Duration
	// Replicas are all replicas that it knows, and Promotes is the one that it promotes. Both
	// are empty unless it was asked for them.
	Replicas []string
	Promotes string

	// At is the address by which it knows the master. While it leads a failover, Master is
	// already the new one, and At is still that of the old one.
	At HostPort
	// ConfigEpoch is the epoch of its configuration. Calm is true while it leads no
	// failover, and FailoverTimeout bounds those that it leads.
	ConfigEpoch     int64
	Calm            bool
	FailoverTimeout time.Duration
	// Knows is how many Sentinels it knows, with itself; 0: it does not tell.
	Knows int
	// ID and Vote are empty if it does not tell them.
	ID   string
	Vote Vote
	Mute bool // it does not tell its vote, since our user has no right to ask for it
}

// HostPort is a master's address in a Sentinel's words: an IP address or a name, and a port.
type HostPort struct{ Host, Port string }

// Voter is what is remembered of a Sentinel's replies.
type Voter struct {
	At    HostPort
	Mute  bool
	id    string
	vote  Vote
	Knows int // how many Sentinels it knew when it told that last
}

// Remember completes a Sentinel's vote by what it told before. A Sentinel that was
// restarted or reset has the epoch and no longer the leader, and would seem to tell of
// another election. It votes once in an epoch, so the leader is the one of before.
func (v *Voter) Remember(w *SentinelReply) {
	if w.Vote == (Vote{}) {
		return
	}
	if w.Vote.Leader == noLeader && w.Vote.Epoch == v.vote.Epoch && w.ID == v.id {
		w.Vote = v.vote
	}
	v.id, v.vote = w.ID, w.Vote
}
