package redis

import (
	"context"
	"sync"
	"time"
)

// sweepEvery is how often deadlines looks for operations whose time is over. A timer for
// each operation would cost as much as some of the requests. An operation may be given up
// late by twice that time, if it came just before a sweep that was late itself.
const sweepEvery = 25 * time.Millisecond

// deadlines keeps the operations of Client.Start, and gives up those whose time is over,
// as writer.do does for its caller. An operation is kept from before it is queued until
// its caller has its outcome, and is not used again before. So the holder of mu may read
// all of them.
type deadlines struct {
	w *writer

	mu sync.Mutex
	// open has the operations in the order of their deadlines. expired has those whose
	// deadline is over while the writer has them: they get a little more time for its
	// outcome.
	open, expired line
	asleep        bool
	first         chan struct{} // told when there is an operation again
}

func newDeadlines(w *writer) *deadlines { return &deadlines{w: w, first: make(chan struct{}, 1)} }

// line is a list of operations.
type line struct{ head, tail *operation }

func (l *line) push(o *operation) {
	o.before, o.next = l.tail, nil
	if l.tail == nil {
		l.head = o
	} else {
		l.tail.next = o
	}
	l.tail = o
}

func (l *line) drop(o *operation) {
	if o.before == nil {
		l.head = o.next
	} else {
		o.before.next = o.next
	}
	if o.next == nil {
		l.tail = o.before
	} else {
		o.next.before = o.before
	}
	o.before, o.next = nil, nil
}

// add gives an operation its deadline, and begins to watch it. If several come at once,
// one may be in the list behind another whose deadline is some microseconds later.
func (t *deadlines) add(o *operation) {
	o.until = time.Now().Add(t.w.cfg.Hold)
	o.giveUp, o.watched = o.until, true
	t.mu.Lock()
	t.open.push(o)
	wake := t.asleep
	t.asleep = false
	t.mu.Unlock()
	if wake {
		select {
		case t.first <- struct{}{}:
		default:
		}
	}
}

// remove ends the watch over an operation.
func (t *deadlines) remove(o *operation) {
	t.mu.Lock()
	if o.watched {
		o.watched = false
		if o.expired.Load() {
			t.expired.drop(o)
		} else {
			t.open.drop(o)
		}
	}
	t.mu.Unlock()
}

// run gives up operations until the context ends. The writer then gives those that it
// still has their outcome.
func (t *deadlines) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		t.mu.Lock()
		t.asleep = t.open.head == nil && t.expired.head == nil
		asleep := t.asleep
		t.mu.Unlock()
		if asleep {
			select {
			case <-t.first:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-tick.C:
			t.sweep(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// given is an operation that is given up, with its outcome.
type given struct {
	o      *operation
	err    error
	waited bool // it was still in the queue
}

// sweep gives up what is to be given up by now.
func (t *deadlines) sweep(now time.Time) {
	var all []given
	t.mu.Lock()
	for o := t.open.head; o != nil && now.After(o.giveUp); o = t.open.head {
		t.open.drop(o)
		if o.state.CompareAndSwap(queued, finished) {
			o.watched = false
			all = append(all, given{o, o.without(), true})
			continue
		}
		// The writer has it, and mostly knows the outcome after one more WAIT.
		o.expired.Store(true)
		o.giveUp = now.Add(2 * t.w.cfg.AckTimeout)
		t.expired.push(o)
	}
	for o := t.expired.head; o != nil && now.After(o.giveUp); {
		next := o.next
		if waited, err := o.dismiss(); err != nil {
			t.expired.drop(o)
			o.watched = false
			all = append(all, given{o, err, waited})
		}
		o = next
	}
	t.mu.Unlock()
	for _, g := range all {
		if g.waited {
			t.w.forget(g.o)
		}
		g.o.then(g.o, false, g.err)
	}
}
