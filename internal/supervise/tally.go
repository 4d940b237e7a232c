package supervise

import (
	"errors"
	"sync"
)

// Tally counts what this supervisor has seen and done since it was started.
type Tally struct {
	// Failovers are changes of the Redis master that nobody asked for.
	Failovers int64
	// Switchovers were carried out, Failed and Refused not.
	Switchovers, Failed, Refused int64
	// Switching is true while one is under way.
	Switching bool
}

// tally keeps the Tally. It is safe for concurrent use.
type tally struct {
	mu  sync.Mutex
	now Tally
	// asked is the node that a switchover makes the master; empty: none does.
	asked string
}

// Tally returns what was counted so far.
func (s *Supervisor) Tally() Tally {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	return s.tally.now
}

// switches takes note of a switchover that begins.
func (t *tally) switches(to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Switching, t.asked = true, to
}

// ended takes note of its end.
func (t *tally) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Switching = false
}

// switched takes note of how it went.
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

// masterIs takes note of another master.
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
