package commit

import (
	"context"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/moment"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/turns"
)

// Redis carries out one long operation at a time, whichever node sends it. While a
// script runs, Redis replies to a Sentinel's ping with an error (BUSY), which counts as
// silence, and a Sentinel pings about twice within the time after which it considers
// the master down. So Redis needs time for a ping between two long scripts. The nodes
// do not know each other. They agree by a key at the master, the lease: each sets it
// before an operation that may take long.

// leaseName is the key of the lease among the records, without their prefix.
const leaseName = "long"

// keptOff is the lease's value where nobody has it: see Session.keepOff.
const keptOff = "off"

// leaseAgain is how long a node waits before it asks for the lease again. leaseUnsure is how many
// times as long as the lease it waits if Redis cannot tell who has it, because its memory is full.
const (
	leaseAgain  = 20 * time.Millisecond
	leaseUnsure = 4
)

// leaseTime returns for how long a long operation keeps the lease: one and a half times the time
// after which a Sentinel considers the master down. A script is ended after a little more than a
// quarter of that time, and a Sentinel pings at least once in the rest. It is 0 if no Sentinel
// watches the master.
func (s *Session) leaseTime() time.Duration {
	if s.w.cfg.Alone() {
		return 0
	}
	now, _ := s.w.monitor.Now()
	return now.DownAfter * 3 / 2
}

// leaseKey returns the key of the lease; empty: it is not known which slot of a cluster is this
// master's.
func (s *Session) leaseKey() string {
	if s.w.slot == nil {
		return once.Prefix + leaseName
	}
	slot := s.w.slot()
	if slot < 0 {
		return ""
	}
	return once.RecordIn(slot, leaseName)
}

// lease asks for the lease for an operation, and reports whether this session has it.
// An error ends the session.
func (s *Session) lease(ctx context.Context, o *operation.Operation) (bool, error) {
	lasts := s.leaseTime()
	if lasts == 0 {
		return true, nil
	}
	key := s.leaseKey()
	if key == "" {
		return false, nil
	}
	answer, err := s.askAboutLease(ctx, s.conn.B().Set().Key(key).Value("").Nx().PxMilliseconds(lasts.Milliseconds()).Build())
	if err != nil {
		return false, err
	}
	err = answer.Error()
	switch {
	case err == nil:
		s.leased, s.leasedScript = key, o.RunsScript
		return true, nil
	case rueidis.IsRedisNil(err):
		return false, nil
	case strings.HasPrefix(err.Error(), "OOM"):
		if time.Since(s.unsure) < leaseUnsure*lasts {
			return false, nil
		}
		s.unsure = time.Now()
		return true, nil
	}
	return false, s.refused(err)
}

// askAboutLease sends a command about the lease. An error ends the session.
func (s *Session) askAboutLease(ctx context.Context, cmd rueidis.Completed) (rueidis.RedisResult, error) {
	answers, _ := s.exchange(ctx, s.records(nil, cmd))
	if answers[len(answers)-1].NonRedisError() != nil {
		return rueidis.RedisResult{}, outcome.ErrLost
	}
	return answers[len(answers)/2], nil // between the ways to the database of the records and back
}

// strict reports whether no script may be considered short now. That is so if Redis has replied that
// a script keeps it busy which runs without the lease: one that was short before, sent by this node
// or another. Other nodes may have sent the same, and all of them behind each other would keep Redis
// from the Sentinels. An error ends the session.
func (s *Session) strict(ctx context.Context) (bool, error) {
	if time.Now().Before(s.strictUntil) {
		return true, nil
	}
	lasts, key, busy := s.leaseTime(), s.leaseKey(), s.w.busy.Load()
	if busy == s.busyChecked || lasts == 0 || key == "" || moment.Since(time.Now(), busy) > lasts {
		return false, nil
	}
	answer, err := s.askAboutLease(ctx, s.conn.B().Get().Key(key).Build())
	if err != nil {
		return false, err
	}
	s.busyChecked = busy
	if holder, err := answer.ToString(); err != nil || holder == keptOff {
		s.strictUntil = time.Now().Add(lasts)
		return true, nil
	}
	return false, nil
}

// sawScript learns from an operation that was carried out what became of its script.
func (s *Session) sawScript(o *operation.Operation) {
	if !o.RunsScript {
		return
	}
	s.script = turns.ScriptEnded
	for i := range o.Results {
		if err := o.Results[i].Err; err != nil && strings.Contains(err.Error(), "killed by user") {
			s.script = turns.ScriptKilled
		}
	}
}

// keepOff keeps long operations of all nodes away from this master for a while. This
// node also holds back scripts that it takes for short ones, since one of them was long
// and ran without the lease.
func (s *Session) keepOff(ctx context.Context) {
	lasts, key := s.leaseTime(), s.leaseKey()
	s.strictUntil = time.Now().Add(lasts)
	if lasts == 0 || key == "" {
		return
	}
	s.changeLease(ctx, s.conn.B().Set().Key(key).Value(keptOff).PxMilliseconds(lasts.Milliseconds()).Build())
}

// endLease gives the lease back, if the session has it, after a batch that took so
// long, of which so much was its own. After a script that a ping may have met, the lease
// expires instead.
func (s *Session) endLease(ctx context.Context, took, own time.Duration) {
	key, lasts := s.leased, s.leaseTime()
	s.leased = ""
	// A lease that is as old as that may be another's already.
	if key == "" || took > lasts/2 || s.leasedScript && own > turns.ScriptPatience/2 {
		return
	}
	s.changeLease(ctx, s.conn.B().Del().Key(key).Build())
}

// changeLease sends a command about the lease. When its answer is lost, the session
// ends.
func (s *Session) changeLease(ctx context.Context, cmd rueidis.Completed) {
	ctx, cancel := context.WithTimeout(ctx, s.w.cfg.Hold)
	defer cancel()
	answers, _ := s.exchange(ctx, s.records(nil, cmd))
	if err := answers[len(answers)-1].NonRedisError(); err != nil {
		s.spoil(outcome.ErrLost)
	}
}
