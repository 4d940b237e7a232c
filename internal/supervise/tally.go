package supervise

import (
	"errors"
	"sync"
)

// Tally counts what this supervisor has seen and done since it was started.
type Tally struct {
	// Failovers are changes of the Redis master that nobody asked for.
	Failovers int64
	// Switchovers counts those that were carried out; Failed and Refused count the others.
	Switchovers, Failed, Refused int64
	// Switching is true while a switchover is under way.
	Switching bool
}

// tally keeps the Tally. It is safe for concurrent use.
type tally struct {
	mu  sync.Mutex
	now Tally
	// asked is the node that a switchover is to make the master; empty: none is under way.
	asked string
}

// Tally returns what was counted so far.
func (s *Supervisor) Tally() Tally {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	return s.tally.now
}

// switches records that a switchover begins.
func (t *tally) switches(to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Switching, t.asked = true, to
}

// ended records that it ends.
func (t *tally) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Switching = false
}

// switched records its outcome.
func (t *tally) switched(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var refused *RefusedError
	var unknown *UnknownNodeError
	switch {
	case errors.As(err, &unknown), errors.Is(err, errStopping):
	case errors.As(err, &refused):
		t.now.Refused++
	case err != nil:
		t.now.Failed++
	default:
		t.now.Switchovers++
	}
}

// masterIs records a change of the master.
func (t *tally) masterIs(was, now string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case was == "" || was == now:
	case now == t.asked:
		t.asked = ""
	default:
		t.now.Failovers++
	}
}
