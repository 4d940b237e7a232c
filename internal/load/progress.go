package load

import (
	"time"

	"holdfast/internal/history"
)

// Progress is how far a load is.
type Progress struct {
	// Sent counts the operations that a client took on, of which InFlight
	// are under way. Waiting is how many more are due and wait for a client.
	Sent, InFlight, Waiting int
	OK, Failed, Unknown     int
	// Longest is how long the one that waits for longest has waited so far,
	// from when it was due, under way or not; 0: none waits.
	Longest time.Duration
	// Answers counts the operations that were answered within the last second.
	Answers int
	// Late is how much later than due the next one is to be sent, because no
	// client is free. Behind is how much too late the load itself was, at the
	// worst, to have an operation become due: the machine is too busy for it.
	Late, Behind time.Duration
}

// Progress is cheap enough to be called many times a second.
func (l *Load) Progress() Progress {
	p := Progress{OK: int(l.ok.Load()), Failed: int(l.failed.Load()), Unknown: int(l.unknown.Load())}
	now := l.now()
	l.mu.Lock()
	p.Sent, p.Waiting, p.Behind = l.taken, l.due-l.taken, l.behind
	p.Answers = l.recent.sum(now)
	if p.Waiting > 0 {
		p.Late = max(0, now-l.dueAt(l.taken))
	}
	l.mu.Unlock()
	p.Longest = p.Late
	for _, c := range l.clients {
		if since := c.since.Load(); since > 0 {
			p.InFlight++
			p.Longest = max(p.Longest, now-time.Duration(since-1))
		}
	}
	return p
}

// count counts an operation that is over.
func (l *Load) count(op *history.Operation) {
	switch op.Outcome {
	case history.OK:
		l.ok.Add(1)
		l.mu.Lock()
		l.recent.add(op.End)
		l.mu.Unlock()
	case history.Failed:
		l.failed.Add(1)
	default:
		l.unknown.Add(1)
	}
}

// recent counts what happened within the last second, to the tenth of it.
type recent struct {
	slots [11]struct{ tenth, n int }
}

const tenth = time.Second / 10

func (r *recent) add(at time.Duration) {
	t := int(at / tenth)
	s := &r.slots[t%len(r.slots)]
	if s.tenth != t {
		s.tenth, s.n = t, 0
	}
	s.n++
}

// sum is of the ten tenths before the one that has just begun.
func (r *recent) sum(now time.Duration) (n int) {
	t := int(now / tenth)
	for _, s := range r.slots {
		if s.tenth < t && s.tenth >= t-10 {
			n += s.n
		}
	}
	return n
}
