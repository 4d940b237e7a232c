package commit

import (
	"sync/atomic"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/moment"
)

// ReadLease lets other connections serve reads without WAIT (see Express), under the
// conditions that its session has verified for itself: ack.ReadLease.
type ReadLease struct {
	Session *Session
	ack.ReadLease
	// Heard is the moment at which the last batch was sent that the master has answered.
	Heard atomic.Int64
	// Revoked is true once something spoke against it.
	Revoked atomic.Bool
}

// Lease returns the last lease that a session has given; nil: there is none.
func (w *Writer) Lease() *ReadLease { return w.readLease.Load() }

// Present returns the present session; nil: there is none. The holder of a lease learns by it
// whether the session is over.
func (w *Writer) Present() *Session { return w.session.Load() }

// Count counts a batch of n operations that was read by a lease.
func (w *Writer) Count(n int) { w.Stats.batch(n) }

// Config returns the settings of the client.
func (w *Writer) Config() *config.Config { return &w.cfg }

// Grant gives a lease of a session, whose master has answered a batch that was sent at a time.
func (w *Writer) Grant(s *Session, terms ack.ReadLease, heard time.Time) {
	l := &ReadLease{Session: s, ReadLease: terms}
	l.Observe(heard)
	w.readLease.Store(l)
}

// grantReadLease lets others read as this session just did without WAIT.
func (s *Session) grantReadLease() {
	terms := s.elision.Lease(s.state())
	if last := s.w.Lease(); last != nil && !last.Revoked.Load() && last.Session == s && last.Same(&terms) {
		last.Observe(s.elision.Heard)
		return
	}
	s.w.Grant(s, terms, s.elision.Heard)
}

// checkReadLease takes the lease back if this session itself does not go without WAIT any
// more.
func (s *Session) checkReadLease() {
	switch {
	case s.w.readLease.Load() == nil:
	case s.solitary():
	case s.elision.KeepsLease(s.state()):
	default:
		s.w.readLease.Store(nil)
	}
}

// solitary reports whether there is nothing but this Redis: no replica, and no Sentinel.
func (s *Session) solitary() bool {
	return s.w.cfg.Alone() && s.inSync.Count == 0 && s.w.monitor.State().Online == 0
}

// Observe takes note of a batch that the master has answered, and when it was sent.
func (l *ReadLease) Observe(sent time.Time) { moment.Advance(&l.Heard, sent) }

// Valid reports whether the lease is good now, if the last proof has to be younger than age
// and the master has answered a batch that was sent at heard.
func (l *ReadLease) Valid(now time.Time, age time.Duration, heard int64) bool {
	return !l.Revoked.Load() && l.ReadLease.Valid(now, age, moment.Since(now, heard))
}

// ConfirmedBy reports whether the master's role behind a batch bears the lease out.
func (l *ReadLease) ConfirmedBy(role ack.Role) bool {
	known := l.Session.w.monitor.State()
	return l.ReadLease.ConfirmedBy(role, known.Master == l.Session.Master, known.Others)
}
