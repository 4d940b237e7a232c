package load

import (
	"time"

	"holdfast/internal/history"
)

// Progress describes how far a load is.
type Progress struct {
	// Sent is the number of operations that a client has taken, and InFlight the number of those
	// under way. Waiting is how many more are due and wait for a client.
	Sent, InFlight, Waiting int
	OK, Failed, Unknown     int
	// Longest is how long the longest-waiting operation has waited so far, from when it was due,
	// whether it is under way or not; 0: no operation waits.
	Longest time.Duration
	// Answers is the number of operations that were answered within the last second.
	Answers int
	// Late is how late the next operation will be sent because no client is free. Behind is how
	// late the load itself has made an operation due, at worst: then the machine is too busy for
	// it.
	Late, Behind time.Duration
}

// Progress returns how far the load is. It can be called many times a second.
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

// recent counts events within the last second, to a tenth of a second.
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

// sum returns the events of the ten tenths before the present one.
func (r *recent) sum(now time.Duration) (n int) {
	t := int(now / tenth)
	for _, s := range r.slots {
		if s.tenth < t && s.tenth >= t-10 {
			n += s.n
		}
	}
	return n
}
