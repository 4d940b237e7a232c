package redis

import (
	"cmp"
	"slices"
	"time"
)

// An election of the Sentinels that is won cannot be seen at the master: the leader
// carries it through although the master answers again, and it may be the one Sentinel
// that cannot be heard, together with the replica that it chose. What can be seen are the
// votes. A leader has those of a majority before it promotes anybody, and whoever hears
// another majority hears one that voted for it. A vote is for the master's next
// configuration; so one that is newer than the configuration (its epoch) belongs to an
// election whose outcome nobody has told yet.
//
// Sentinels vote by the command with which they ask each other about a master (Redis 7.0,
// sentinel.c, sentinelVoteLeader). The vote is on the disk before it is told, so one that
// starts anew still has the epoch, but has forgotten for whom it voted.

// vote is a Sentinel's last vote: in which epoch, and for which Sentinel, by its id.
type vote struct {
	epoch  int64
	leader string
}

// noLeader stands for a leader that a Sentinel does not remember, or has never had.
const noLeader = "*"

// election is one that Sentinels voted in.
type election struct {
	vote
	// seen is when this process first heard of it, and round the round. limit is how long
	// after that its leader may promote somebody.
	seen  time.Time
	round uint64
	limit time.Duration
	// over: its leader promotes nobody any more.
	over bool
}

// elections are those that the Sentinels heard of late voted in, the newest last.
type elections []election

// rememberedElections bounds elections. A Sentinel tells its last vote alone, so there
// are no more open ones than Sentinels.
const rememberedElections = 32

// take learns from what the Sentinels said in a round.
func (e *elections) take(words []sentinelWord, round uint64, now time.Time) {
	limit, calm := time.Duration(0), 0
	for _, w := range words {
		limit = max(limit, electionLimit(w.failoverTimeout))
		if w.calm {
			calm++
		}
	}

	// All Sentinels that this process knows may be calm while one leads that it does not
	// know, so that says nothing of an election whose leader has a name. In a round in which
	// no Sentinel replies nobody tells the limit, so the longest that was told counts.
	for i := range *e {
		known := &(*e)[i]
		known.limit = max(known.limit, limit)
		leads := func(w sentinelWord) bool { return w.calm && w.id != "" && w.id == known.leader }
		if known.leader == noLeader && calm == len(words) || slices.ContainsFunc(words, leads) || now.Sub(known.seen) >= known.limit {
			known.over = true
		}
	}

	// Of one that is new the leader's word says nothing: it may have been asked before it
	// began.
	for _, w := range words {
		if w.vote.epoch == 0 || slices.ContainsFunc(*e, func(known election) bool { return known.vote == w.vote }) {
			continue
		}
		*e = append(*e, election{vote: w.vote, seen: now, round: round, limit: limit})
	}
	if more := len(*e) - rememberedElections; more > 0 {
		*e = slices.Delete(*e, 0, more)
	}
}

// open returns the elections that may still have somebody promoted, as far as anybody
// knows after a round: newer than the newest configuration that a Sentinel told in it.
func (e elections) open(words []sentinelWord) (open elections) {
	config := int64(0)
	for _, w := range words {
		config = max(config, w.config)
	}
	for _, known := range e {
		if !known.over && known.epoch > config {
			open = append(open, known)
		}
	}
	return open
}

// threaten reports whether one of the open elections may have another node than the
// master promoted. It does not where the master is the outcome of the last one, which the
// Sentinels announce about a second later. So it is where the master itself was promoted
// since all of them were heard of, and they are one, or the leader of the last one has
// chosen it: what an earlier one does has a lower epoch, and is undone. A master that the
// Sentinels' majority names already (named, since round namedSince) is the outcome of an
// election that is over.
func (e elections) threaten(master nodeView, named string, namedSince uint64, words []sentinelWord) bool {
	if len(e) == 0 {
		return false
	}
	if !master.master || master.since <= namedSince || master.addr == named {
		return true
	}
	if slices.ContainsFunc(e, func(open election) bool { return open.round > master.since }) {
		return true
	}
	last := slices.MaxFunc(e, func(a, b election) int { return cmp.Compare(a.epoch, b.epoch) }).epoch
	one := !slices.ContainsFunc(e, func(open election) bool { return open.epoch != last })
	return !one && !slices.ContainsFunc(words, func(w sentinelWord) bool {
		return w.promotes == master.addr && slices.ContainsFunc(e, func(open election) bool { return open.vote == vote{last, w.id} })
	})
}

// newest returns the master that the Sentinel with the newest configuration names. Among
// those with the same one, named comes first: whom their majority names. Where it is another
// node, the majority has not heard of the last election yet, and will.
func newest(words []sentinelWord, named string) (master string) {
	config := int64(-1)
	for _, w := range words {
		if w.master != "" && (w.config > config || w.config == config && w.master == named) {
			master, config = w.master, w.config
		}
	}
	return master
}

// electionLimit is how long after a Sentinel voted the leader may promote a replica at
// the latest: it has to be elected within the smaller of 10 s and the failover time-out
// of its beginning, which it puts up to a second ahead. Then it may take the failover
// time-out to send the order, and once more until it was followed (Redis 7.0, sentinel.c,
// sentinelFailoverWaitStart and what follows there). A last second is for its ticks. A
// leader that is stopped for longer than all that goes on where it was.
func electionLimit(failoverTimeout time.Duration) time.Duration {
	return time.Second + min(10*time.Second, failoverTimeout) + 2*failoverTimeout + time.Second
}
