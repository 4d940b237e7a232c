package redis

import (
	"sync/atomic"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/moment"
)

// readLease lets other connections serve reads without WAIT (see Express), under the
// conditions that its session has verified for itself: ack.ReadLease.
type readLease struct {
	session *session
	ack.ReadLease
	// heard is the moment at which the last batch was sent that the master has answered.
	heard atomic.Int64
	// revoked is true once something spoke against it.
	revoked atomic.Bool
}

// lease returns the last lease that a session has given; nil: there is none.
func (w *writer) lease() *readLease { return w.readLease.Load() }

// present returns the present session; nil: there is none. Whoever has a lease learns by it
// whether the session is over.
func (w *writer) present() *session { return w.session.Load() }

// count counts a batch of n operations that was read by a lease.
func (w *writer) count(n int) { w.stats.batch(n) }

// config returns the settings of the client.
func (w *writer) config() *Config { return &w.cfg }

// grant gives a lease of a session, whose master has answered a batch that was sent at a time.
func (w *writer) grant(s *session, terms ack.ReadLease, heard time.Time) {
	l := &readLease{session: s, ReadLease: terms}
	l.observe(heard)
	w.readLease.Store(l)
}

// grantReadLease lets others read as this session just did without WAIT.
func (s *session) grantReadLease() {
	terms := s.elision.Lease(s.state())
	if last := s.w.lease(); last != nil && !last.revoked.Load() && last.session == s && last.Same(&terms) {
		last.observe(s.elision.Heard)
		return
	}
	s.w.grant(s, terms, s.elision.Heard)
}

// checkReadLease takes the lease back if this session itself does not go without WAIT any
// more.
func (s *session) checkReadLease() {
	switch {
	case s.w.readLease.Load() == nil:
	case s.solitary():
	case s.elision.KeepsLease(s.state()):
	default:
		s.w.readLease.Store(nil)
	}
}

// solitary reports whether there is nothing but this Redis: no replica, and no Sentinel.
func (s *session) solitary() bool {
	return s.w.cfg.Alone() && s.inSync.Count == 0 && s.w.monitor.State().Online == 0
}

// observe takes note of a batch that the master has answered, and when it was sent.
func (l *readLease) observe(sent time.Time) { moment.Advance(&l.heard, sent) }

// valid reports whether the lease is good now, if the last proof has to be younger than age
// and the master has answered a batch that was sent at heard.
func (l *readLease) valid(now time.Time, age time.Duration, heard int64) bool {
	return !l.revoked.Load() && l.Valid(now, age, moment.Since(now, heard))
}

// confirmedBy reports whether the master's role behind a batch bears the lease out.
func (l *readLease) confirmedBy(role ack.Role) bool {
	known := l.session.w.monitor.State()
	return l.ConfirmedBy(role, known.Master == l.session.master, known.Others)
}
