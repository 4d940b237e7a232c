package redis

import (
	"holdfast/internal/redis/election"
	"slices"
	"time"
)

// The in-sync set of a session: which replicas have to have an operation before
// it is answered, who leaves the set, and who comes back.

// absence is a replica's time out of the in-sync set: it is over when the
// replica has the offset and the time has come. One that is slow again and
// again stays away longer each time, or everybody would wait for it as often.
type absence struct {
	offset int64
	until  time.Time
}

// The times out of the in-sync set.
const (
	leastAbsence = time.Second
	maxStrikes   = 5 // 32 s
)

// grow counts the replicas that are in sync: online at the master, heard of at
// least once, and not behind. One that has just come counts as behind at first:
// it has its append-only file to set up anew, and its disk to wait for. Not so
// when nobody else is in sync: what a read shows has to be on some replica.
func (s *session) grow() {
	now, _ := s.w.monitor.now()
	if now.Master != s.master {
		return
	}
	master, n := now.MasterNode(), 0
	for addr := range s.there {
		if !master.Has(addr) {
			delete(s.there, addr)
		}
	}
	for _, r := range master.Replicas {
		if r.Offset > 0 && !s.there[r.Address] {
			s.there[r.Address] = true
			if _, ok := s.behind[r.Address]; !ok && s.expect > 0 {
				s.behind[r.Address] = absence{master.Offset, time.Now().Add(leastAbsence)}
			}
		}
		if away, ok := s.behind[r.Address]; ok && r.Offset >= away.offset && time.Now().After(away.until) {
			delete(s.behind, r.Address)
		}
		if _, ok := s.behind[r.Address]; !ok && r.Offset > 0 {
			n++
		}
	}
	s.expect = max(s.expect, n)
	s.w.inSync.Store(int64(s.expect))
}

// members are the in-sync replicas that the master has now. One whose
// connection has ended is none any more: it is dead, or comes anew.
func (s *session) members(master election.Node) []election.Replica {
	return slices.DeleteFunc(slices.Clone(master.Replicas), func(r election.Replica) bool {
		_, away := s.behind[r.Address]
		return away || !s.there[r.Address]
	})
}

// agreed says that every in-sync replica has the operations that are done. It
// looks at who they are: WAIT counts whoever confirms, also one that is not in
// sync. A replica that has not confirmed leaves the set when it is not to be
// waited for any longer. While the Sentinels do not stand by the master, nobody leaves: a
// leader may have chosen any other node, before it fell behind, and may promote it.
func (s *session) agreed(now election.Snapshot) bool {
	master := now.MasterNode()
	if !now.StoodBy() && s.confirmed(master) < now.Others() {
		s.miss()
		s.missAnew()
		s.pause = retryPause
		return false
	}
	members := s.members(master)
	among := members
	if len(members) == 0 {
		// Nobody is in sync; then any one that is there will do.
		among = master.Replicas
	}
	if s.offset == 0 {
		s.miss()
		s.expect = min(s.expect, len(members))
		return len(among) == 0 // else the next batch asks for the offset
	}
	lacking := slices.DeleteFunc(slices.Clone(among), func(r election.Replica) bool { return r.Offset >= s.offset })
	if len(members) == 0 && len(lacking) < len(among) {
		lacking = nil
	}
	if len(lacking) > 0 {
		s.miss()
		s.hear(among)
		if s.patient(now, lacking) {
			s.pause = retryPause
			return false
		}
		s.leave(master, lacking)
	}
	s.expect = len(s.members(master))
	s.w.inSync.Store(int64(s.expect))
	return true
}

// confirmed is how many replicas have the operations that are done; none where nobody
// asked for the offset.
func (s *session) confirmed(master election.Node) (n int) {
	for _, r := range master.Replicas {
		if s.offset > 0 && r.Offset >= s.offset {
			n++
		}
	}
	return n
}

// progress is what a replica has confirmed since replicas miss deadlines: how far, since
// when it has been seen to lack the rest with no more than that (zero: it lacks nothing), and
// whether it was news in the last round.
type progress struct {
	offset int64
	since  time.Time
	news   bool
}

// miss remembers since when replicas miss deadlines.
func (s *session) miss() {
	if s.missed.IsZero() {
		s.missed, s.heard = time.Now(), map[string]progress{}
	}
}

// caughtUp forgets that replicas missed deadlines.
func (s *session) caughtUp() { s.missed, s.heard = time.Time{}, nil }

// missAnew has the patience with replicas begin anew: for how long they missed deadlines
// says nothing of the time in which nobody could tell whether another master was promoted.
func (s *session) missAnew() {
	if !s.missed.IsZero() {
		s.caughtUp()
		s.miss()
	}
}

// hear takes in what replicas have confirmed. The first look at one that lacks something
// says nothing of when it confirmed the rest, unless it had confirmed less at the last
// look: so those that lack nothing are looked at, too.
func (s *session) hear(replicas []election.Replica) {
	for _, r := range replicas {
		switch last, ok := s.heard[r.Address]; {
		case r.Offset >= s.offset:
			s.heard[r.Address] = progress{offset: r.Offset}
		case ok && r.Offset > last.offset:
			s.heard[r.Address] = progress{offset: r.Offset, since: time.Now(), news: true}
		case !ok || last.since.IsZero() || r.Offset < last.offset:
			s.heard[r.Address] = progress{offset: r.Offset, since: time.Now()}
		default:
			last.news = false
			s.heard[r.Address] = last
		}
	}
}

// patient says that replicas which have not confirmed are to be waited for. One
// that is silent may be cut off, with the Sentinels on its side: they take
// DownAfter to hold this master for down, and only then can they be heard to. One
// that has confirmed something new just now still follows, and is slow. What counts is
// when the Sentinels were asked, and not when this process comes to look at it.
func (s *session) patient(now election.Snapshot, lacking []election.Replica) bool {
	for _, r := range lacking {
		heard := s.heard[r.Address]
		limit, began := s.w.cfg.AckTimeout-s.w.slice(), s.missed
		if !heard.news && len(now.Sentinels) > 0 {
			limit, began = now.DownAfter+doubtMargin(now.DownAfter), heard.since
		}
		if now.Asked.Sub(began) < limit {
			return true
		}
	}
	return false
}

// doubtMargin is how much later than DownAfter a Sentinel may hold a master for
// down: it pings every second, or as often as DownAfter if that is less, and
// acts at a tick of 100 ms (Redis 7.0, sentinel.c; a stack's ping oftener).
func doubtMargin(downAfter time.Duration) time.Duration {
	return min(downAfter, time.Second) + 200*time.Millisecond
}

// leave takes replicas out of the in-sync set. Each comes back when it has what
// the master has now.
func (s *session) leave(master election.Node, lacking []election.Replica) {
	for _, r := range lacking {
		strikes := s.strikes[r.Address]
		s.behind[r.Address] = absence{master.Offset, time.Now().Add(leastAbsence << strikes)}
		s.strikes[r.Address] = min(strikes+1, maxStrikes)
	}
}
