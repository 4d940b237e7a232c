// Package deadline gives up operations whose time is over, for callers that do not wait for them
// by themselves.
package deadline

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/redis/operation"
)

// sweepEvery is how often a Watch looks for operations whose time is over. A timer for
// each operation would cost as much as some of the requests. An operation may be given up
// late by twice that time, if it came just before a sweep that was late itself.
const sweepEvery = 25 * time.Millisecond

// Watch keeps the operations of Client.Start, and gives up those whose time is over, as
// commit.Writer.Do does for its caller. An operation is kept from before it is queued until
// its caller has its outcome, and is not used again before. So the holder of mu may read
// all of them.
type Watch struct {
	hold   time.Duration                // the time that an operation has
	grace  time.Duration                // how much longer it is waited for while the writer has it
	forget func(o *operation.Operation) // takes an operation in the queue off its counts

	mu sync.Mutex
	// open has the operations in the order of their deadlines. expired has those whose
	// deadline is over while the writer has them: they get a little more time for its
	// outcome.
	open, expired line
	asleep        bool
	first         chan struct{} // told when there is an operation again
}

// New returns a Watch that gives operations up after hold, or that much later if the writer has
// them. forget takes an operation off the counts of the queue that it was in.
func New(hold, grace time.Duration, forget func(*operation.Operation)) *Watch {
	return &Watch{hold: hold, grace: grace, forget: forget, first: make(chan struct{}, 1)}
}

// line is a list of operations.
type line struct{ head, tail *operation.Operation }

func (l *line) push(o *operation.Operation) {
	o.Before, o.Next = l.tail, nil
	if l.tail == nil {
		l.head = o
	} else {
		l.tail.Next = o
	}
	l.tail = o
}

func (l *line) drop(o *operation.Operation) {
	if o.Before == nil {
		l.head = o.Next
	} else {
		o.Before.Next = o.Next
	}
	if o.Next == nil {
		l.tail = o.Before
	} else {
		o.Next.Before = o.Before
	}
	o.Before, o.Next = nil, nil
}

// Add gives an operation its deadline, and begins to watch it. If several come at once,
// one may be in the list behind another whose deadline is some microseconds later.
func (t *Watch) Add(o *operation.Operation) {
	o.Until = time.Now().Add(t.hold)
	o.GiveUp, o.Watched = o.Until, true
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

// Remove ends the watch over an operation.
func (t *Watch) Remove(o *operation.Operation) {
	t.mu.Lock()
	if o.Watched {
		o.Watched = false
		if o.Expired.Load() {
			t.expired.drop(o)
		} else {
			t.open.drop(o)
		}
	}
	t.mu.Unlock()
}

// Run gives up operations until the context ends. The writer then gives those that it
// still has their outcome.
func (t *Watch) Run(ctx context.Context) {
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
			t.Sweep(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// given is an operation that is given up, with its outcome.
type given struct {
	o      *operation.Operation
	err    error
	waited bool // it was still in the queue
}

// Sweep gives up what is to be given up by now.
func (t *Watch) Sweep(now time.Time) {
	var all []given
	t.mu.Lock()
	for o := t.open.head; o != nil && now.After(o.GiveUp); o = t.open.head {
		t.open.drop(o)
		if o.State.CompareAndSwap(operation.Queued, operation.Finished) {
			o.Watched = false
			all = append(all, given{o, o.Without(), true})
			continue
		}
		// The writer has it, and mostly knows the outcome after one more WAIT.
		o.Expired.Store(true)
		o.GiveUp = now.Add(t.grace)
		t.expired.push(o)
	}
	for o := t.expired.head; o != nil && now.After(o.GiveUp); {
		next := o.Next
		if waited, err := o.Dismiss(); err != nil {
			t.expired.drop(o)
			o.Watched = false
			all = append(all, given{o, err, waited})
		}
		o = next
	}
	t.mu.Unlock()
	for _, g := range all {
		if g.waited {
			t.forget(g.o)
		}
		g.o.OnDone(g.o, false, g.err)
	}
}
