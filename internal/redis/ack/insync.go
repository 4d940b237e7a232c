package ack

import (
	"slices"
	"time"

	"holdfast/internal/redis/election"
)

// InSync is the in-sync set of a session: the replicas that have to have an operation
// before it is answered. A replica leaves the set when it misses deadlines, and comes back
// when it has caught up.
type InSync struct {
	// Count is how many replicas have to have a batch. It grows when a replica is online
	// and has caught up, and shrinks only when one misses its deadline.
	Count int

	// behind are the replicas that missed a deadline or have just come, and there are those
	// that the master had when it was last looked at.
	behind map[string]absence
	there  map[string]bool
	// strikes counts how often each fell behind.
	strikes map[string]int
	// missed is when replicas began to miss deadlines, zero when they do not. heard is what
	// each of them has confirmed since.
	missed time.Time
	heard  map[string]progress
}

// absence is a replica's time outside the in-sync set. It is over when the replica has the
// offset and the time has come. A replica that is slow again and again stays away longer
// each time: otherwise all operations would wait for it as often.
type absence struct {
	offset int64
	until  time.Time
}

// The times outside the in-sync set.
const (
	leastAbsence = time.Second
	maxStrikes   = 5 // 32 s
)

// NewInSync returns the in-sync set of a session that begins with these replicas.
func NewInSync(replicas ...string) InSync {
	s := InSync{Count: len(replicas), behind: map[string]absence{}, there: map[string]bool{}, strikes: map[string]int{}}
	for _, addr := range replicas {
		s.there[addr] = true
	}
	return s
}

// Grow takes in the replicas that the master has now, and counts those in sync: online,
// heard of at least once, and not behind. One that has just come counts as behind at first,
// since it has its append-only file to set up anew, and its disk to wait for. It does not if
// no other is in sync: what a read shows has to be on some replica.
func (s *InSync) Grow(master election.Node, now time.Time) {
	for addr := range s.there {
		if !master.Has(addr) {
			delete(s.there, addr)
		}
	}

	n := 0
	for _, r := range master.Replicas {
		if r.Offset > 0 && !s.there[r.Address] {
			s.there[r.Address] = true
			if _, ok := s.behind[r.Address]; !ok && s.Count > 0 {
				s.behind[r.Address] = absence{master.Offset, now.Add(leastAbsence)}
			}
		}
		if away, ok := s.behind[r.Address]; ok && r.Offset >= away.offset && now.After(away.until) {
			delete(s.behind, r.Address)
		}
		if _, ok := s.behind[r.Address]; !ok && r.Offset > 0 {
			n++
		}
	}
	s.Count = max(s.Count, n)
}

// members returns the in-sync replicas that the master has now. One whose connection has
// ended is no member any more: it is dead, or comes anew.
func (s *InSync) members(master election.Node) []election.Replica {
	return slices.DeleteFunc(slices.Clone(master.Replicas), func(r election.Replica) bool {
		_, away := s.behind[r.Address]
		return away || !s.there[r.Address]
	})
}

// Agreed reports whether every in-sync replica has what the master had at an offset, which
// is 0 if it was not asked for. It looks at which replicas have it: WAIT counts any that
// confirms, also one that is not in sync. A replica that lacks it leaves the set when it is
// not to be waited for any longer: patience is how long a slow one is. While the Sentinels
// do not stand by the master, none leaves: a leader may have chosen any other node, before
// it fell behind, and may promote it. again is true if replicas have to be asked again.
func (s *InSync) Agreed(round election.Snapshot, offset int64, patience time.Duration, now time.Time) (agreed, again bool) {
	master := round.MasterNode()
	if !round.StoodBy() && confirmed(master, offset) < round.Others() {
		s.miss(now)
		s.Restart(now)
		return false, true
	}

	members := s.members(master)
	among := members
	if len(members) == 0 {
		// No replica is in sync. Then any one that is there will do.
		among = master.Replicas
	}
	if offset == 0 {
		s.miss(now)
		s.Count = min(s.Count, len(members))
		return len(among) == 0, false // else the next batch asks for the offset
	}

	lacking := slices.DeleteFunc(slices.Clone(among), func(r election.Replica) bool { return r.Offset >= offset })
	if len(members) == 0 && len(lacking) < len(among) {
		lacking = nil
	}
	if len(lacking) > 0 {
		s.miss(now)
		s.hear(among, offset, now)
		if s.waitsFor(lacking, round, patience) {
			return false, true
		}
		s.leave(master, lacking, now)
	}
	s.Count = len(s.members(master))
	return true, false
}

// confirmed returns how many replicas have what the master had at an offset; 0 if the
// offset is not known.
func confirmed(master election.Node, offset int64) (n int) {
	for _, r := range master.Replicas {
		if offset > 0 && r.Offset >= offset {
			n++
		}
	}
	return n
}

// progress is what a replica has confirmed since replicas began to miss deadlines: how
// far, since when it has been seen to have no more than that (zero: it lacks nothing), and
// whether it was news in the last round.
type progress struct {
	offset int64
	since  time.Time
	news   bool
}

// Lagging reports whether a replica has missed its deadline and all have not caught up
// since.
func (s *InSync) Lagging() bool { return !s.missed.IsZero() }

// miss remembers since when replicas miss deadlines.
func (s *InSync) miss(now time.Time) {
	if s.missed.IsZero() {
		s.missed, s.heard = now, map[string]progress{}
	}
}

// CaughtUp forgets that replicas missed deadlines.
func (s *InSync) CaughtUp() { s.missed, s.heard = time.Time{}, nil }

// Restart has the patience with replicas begin anew. For how long they missed deadlines
// says nothing of the time in which nobody could tell whether another master was promoted.
func (s *InSync) Restart(now time.Time) {
	if !s.missed.IsZero() {
		s.CaughtUp()
		s.miss(now)
	}
}

// hear records how far each replica has confirmed, and since when a replica that lacks
// something has confirmed nothing new. When it is first seen to lack something, that time is
// known only if it has confirmed more than at the last look. So replicas that lack nothing
// are recorded, too.
func (s *InSync) hear(replicas []election.Replica, offset int64, now time.Time) {
	for _, r := range replicas {
		switch last, ok := s.heard[r.Address]; {
		case r.Offset >= offset:
			s.heard[r.Address] = progress{offset: r.Offset}
		case ok && r.Offset > last.offset:
			s.heard[r.Address] = progress{offset: r.Offset, since: now, news: true}
		case !ok || last.since.IsZero() || r.Offset < last.offset:
			s.heard[r.Address] = progress{offset: r.Offset, since: now}
		default:
			last.news = false
			s.heard[r.Address] = last
		}
	}
}

// waitsFor reports whether replicas that lack something are to be waited for. One that is
// silent may be cut off, with the Sentinels on its side. They take downAfter to consider
// this master down, and only then does a question to them tell. One that has confirmed
// something new just now still follows, and is slow. What counts is when the Sentinels were
// asked, and not when this process looks at what they said.
func (s *InSync) waitsFor(lacking []election.Replica, round election.Snapshot, patience time.Duration) bool {
	for _, r := range lacking {
		heard := s.heard[r.Address]
		limit, began := patience, s.missed
		if !heard.news && len(round.Sentinels) > 0 {
			limit, began = round.DownAfter+doubtMargin(round.DownAfter), heard.since
		}
		if round.Asked.Sub(began) < limit {
			return true
		}
	}
	return false
}

// doubtMargin is how much later than downAfter a Sentinel may consider a master down. It
// pings every second, or as often as downAfter if that is less, and acts at a tick of
// 100 ms (Redis 7.0, sentinel.c; a stack's Sentinels ping more often).
func doubtMargin(downAfter time.Duration) time.Duration {
	return min(downAfter, time.Second) + 200*time.Millisecond
}

// leave takes replicas out of the in-sync set. Each comes back when it has what the master
// has now.
func (s *InSync) leave(master election.Node, lacking []election.Replica, now time.Time) {
	for _, r := range lacking {
		strikes := s.strikes[r.Address]
		s.behind[r.Address] = absence{master.Offset, now.Add(leastAbsence << strikes)}
		s.strikes[r.Address] = min(strikes+1, maxStrikes)
	}
}
