// Package commit is the group commit: it sends operations to the master in batches, and answers
// them when package ack lets it. It repeats what may be repeated, and takes turns with other nodes
// for what is long.
package commit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/deadline"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/turns"
)

// Bounds of one batch, so that a batch is short and the pipeline's memory is
// bounded.
const (
	maxBatch      = 1024
	maxBatchBytes = 4 << 20
)

// RetryPause is the pause between two attempts at operations that were turned down.
const RetryPause = 25 * time.Millisecond

// masterWatch tells a writer who the master is. Look has it ask anew, for instance after
// a connection broke. Its implementation is discovery.Monitor.
type masterWatch interface {
	Now() (election.Snapshot, <-chan struct{})
	Wait(context.Context) (election.Snapshot, error)
	Confirm(context.Context) (election.Snapshot, error)
	Shared(ctx context.Context, master string) int64
	State() *discovery.State
	Look()
}

// Writer is the group commit. The operations that wait, reads too, go to the master as
// one batch, in one pipeline on one connection, followed by one WAIT. While a batch is
// under way, the next one gathers.
//
// The WAIT covers what the batch wrote and what it read, because Redis takes the
// replication offset at the connection's last command of any kind (Redis 7.0, server.c,
// processCommand). So nobody sees a value that the next master might not have. That this
// holds now, and not only at some earlier time, is what Session.fence proves. A batch
// that only reads what the replicas have goes without WAIT (package ack).
type Writer struct {
	cfg     config.Config
	monitor masterWatch
	// ttl is Config.IdempotencyTTL in milliseconds. recordDB and dataDB are the
	// databases of the records and of the data; both are empty if it is the same one.
	ttl, recordDB, dataDB string
	Clocks                *once.Clocks // nil: in a cluster
	Stats                 *Stats
	busy                  *atomic.Int64 // the moment of Redis' last reply that a script keeps it busy
	// Aside has the operations that nobody else should wait for: guarded ones, which
	// take several trips and go one at a time, and those that are not brief, which go
	// few at a time (see slow.go). The aside writer itself has none.
	Aside     *Writer
	lines     *turns.Lines           // aside's queues, instead of queue; under mu
	lasting   *turns.Lines           // likewise, of operations that need the lease
	turn      *turns.Lines           // the queues that the batch was taken from
	met       meter.Encounters       // of the batch that is taken
	wary      int                    // for how many more batches they are kept small
	large     []*operation.Operation // operations that turned out to be large while they waited
	Deadlines *deadline.Watch        // of the operations whose callers do not wait; not in aside
	slot      func() int             // a shard's first slot; nil: there is no cluster
	// InSync is how many replicas have to have the next batch.
	InSync atomic.Int64
	// last is the master of the last session. It belongs to follow.
	last string
	// leaseAsked is when the lease was last asked for in vain. It belongs to follow.
	leaseAsked time.Time
	// session is the present session, and readLease the last lease that it gave to the
	// connections that read beside it (see Express).
	session   atomic.Pointer[Session]
	readLease atomic.Pointer[ReadLease]

	mu    sync.Mutex
	queue []*operation.Operation // including those that their callers gave up
	live  int                    // how many their callers still wait for
	bytes int                    // of the live ones
	ended bool
	more  chan struct{} // told when the queue is no longer empty
}

// New returns a writer that sends to the master which m knows. It sends while Run runs.
func New(cfg config.Config, m masterWatch) *Writer {
	w := &Writer{
		cfg: cfg, monitor: m, more: make(chan struct{}, 1), Stats: new(Stats), busy: new(atomic.Int64),
		ttl: strconv.FormatInt(cfg.IdempotencyTTL.Milliseconds(), 10),
	}
	if cfg.RecordDB >= 0 && cfg.RecordDB != cfg.DB {
		w.recordDB, w.dataDB = strconv.Itoa(cfg.RecordDB), strconv.Itoa(cfg.DB)
	}
	w.Aside = &Writer{
		cfg: cfg, monitor: m, more: make(chan struct{}, 1), Stats: w.Stats, busy: w.busy,
		ttl: w.ttl, recordDB: w.recordDB, dataDB: w.dataDB,
	}
	w.Aside.lines, w.Aside.lasting = turns.NewLines(), turns.NewLines()
	w.Aside.lasting.Scripts = w.Aside.lines.Scripts
	w.Aside.turn = w.Aside.lines
	w.Deadlines = deadline.New(cfg.Hold, 2*cfg.AckTimeout, w.forget)
	return w
}

// RecordLife returns how long a record lives that is made now, in milliseconds.
func (w *Writer) recordLife() string { return w.Clocks.RecordLife(w.ttl) }

// InCluster has the writer keep its own keys in a slot of its shard, which slot returns.
func (w *Writer) InCluster(slot func() int) { w.slot, w.Aside.slot = slot, slot }

// CompareClocks makes records live longer where the nodes' clocks differ.
func (w *Writer) CompareClocks(c *once.Clocks) { w.Clocks, w.Aside.Clocks = c, c }

// Waiting returns how many operations wait, including aside's.
func (w *Writer) Waiting() int {
	w.mu.Lock()
	n := w.live
	w.mu.Unlock()
	if w.Aside != nil {
		n += w.Aside.Waiting()
	}
	return n
}

// put puts an operation into the queue. Its deadline has to be set. The error is why
// there is no place for it.
func (w *Writer) put(o *operation.Operation) error {
	w.mu.Lock()
	switch {
	case w.ended:
		w.mu.Unlock()
		return &outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrClosed}
	case w.live >= w.cfg.MaxHeld || w.live > 0 && w.bytes+o.Size > w.cfg.MaxHeldBytes:
		w.mu.Unlock()
		return &outcome.Error{Kind: outcome.Overloaded, Cause: outcome.ErrTooManyHeld}
	case w.lines != nil && w.lines.Live(o.Sender)+w.lasting.Live(o.Sender) >= turns.MaxWaiting:
		w.mu.Unlock()
		return &outcome.Error{Kind: outcome.Overloaded, Cause: errTooManySlow}
	}
	if w.lines != nil {
		w.linesFor(o).Push(o)
	} else {
		w.queue = append(w.queue, o)
	}
	w.live++
	w.bytes += o.Size
	w.mu.Unlock()
	w.wake()
	return nil
}

// PutWatched is put for an operation that Deadlines watches already, and may have given
// up before it came here. If PutWatched returns an error, the caller of Start has not
// been told of any outcome yet.
func (w *Writer) PutWatched(o *operation.Operation) error {
	err := w.put(o)
	if err == nil || o.State.CompareAndSwap(operation.Queued, operation.Finished) {
		return err
	}
	// Deadlines took it off the counts, in which it never was.
	w.mu.Lock()
	w.live++
	w.bytes += o.Size
	w.mu.Unlock()
	return nil
}

// Do has an operation carried out, and waits for its outcome for about Hold. over is
// true if nobody else uses the operation any more.
func (w *Writer) Do(ctx context.Context, o *operation.Operation) (over bool, err error) {
	if (o.Guarded || o.Aside()) && w.Aside != nil {
		return w.Aside.Do(ctx, o)
	}
	o.Until = time.Now().Add(w.cfg.Hold)
	if end, ok := ctx.Deadline(); ok && end.Before(o.Until) {
		o.Until = end
	}
	if err := w.put(o); err != nil {
		return true, err
	}
	deadline := o.Timer
	if deadline == nil {
		deadline = time.NewTimer(w.cfg.Hold)
		o.Timer = deadline
	} else {
		deadline.Reset(w.cfg.Hold)
	}
	defer deadline.Stop()
	select {
	case err := <-o.Done:
		return true, err
	case <-deadline.C:
	case <-ctx.Done():
	}
	// Give it up. Only if the writer has taken it, it may have been carried out.
	if o.State.CompareAndSwap(operation.Queued, operation.Finished) {
		w.forget(o)
		return false, o.Without()
	}
	// The writer has it, and mostly knows the outcome after one more WAIT.
	o.Expired.Store(true)
	deadline.Reset(2 * w.cfg.AckTimeout)
	select {
	case err := <-o.Done:
		return true, err
	case <-deadline.C:
	}
	for {
		waited, err := o.Dismiss()
		switch {
		case waited:
			w.forget(o)
			return false, err
		case err != nil:
			return false, err
		case o.State.Load() == operation.Finished:
			return true, <-o.Done
		}
	}
}

// forget takes an operation in the queue that its caller gave up off the counts.
func (w *Writer) forget(o *operation.Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live--
	w.bytes -= o.Size
	if w.lines != nil {
		w.linesFor(o).Forget(o)
		return
	}
	if len(w.queue) > 2*w.live+64 {
		w.queue = slices.DeleteFunc(w.queue, func(o *operation.Operation) bool { return o.State.Load() == operation.Finished })
	}
}

func (w *Writer) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// take takes the next batch from the queue. It is empty if nothing waits.
func (w *Writer) take(batch []*operation.Operation) []*operation.Operation {
	if w.lines != nil {
		return w.takeSlow(batch)
	}
	batch = w.takeBrief(batch)
	for _, o := range w.large {
		o.Finish(operation.ErrLarge)
	}
	clear(w.large)
	w.large = w.large[:0]
	return batch
}

// takeBrief is take for brief operations. If several of them read a key whose length is
// not known yet, it leaves most of them for the next batch: the first answer tells the
// length.
func (w *Writer) takeBrief(batch []*operation.Operation) []*operation.Operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met.Begin()
	bytes, n, left, unseen := 0, 0, 0, 0
	w.wary = max(0, w.wary-1)
	now := time.Now()
	for _, o := range w.queue {
		if len(batch) > 0 && (len(batch) == maxBatch || bytes+o.Size > maxBatchBytes) {
			break
		}
		n++
		if !w.ended && now.After(o.Until) {
			continue // its caller takes it off the counts
		}
		large := false
		if o.Learns != 0 && !w.ended {
			length, known := o.Ledger.Lengths.Of(o.Learns)
			if large = length > 0 && known; !known && o.Unseen {
				if unseen++; w.met.Add(o.Learns) > meter.UnseenTwice || o.Bounded == operation.Unbounded && w.wary > 0 && unseen > meter.WaryKeys {
					w.queue[left] = o
					left++
					continue
				}
			}
		}
		if o.State.CompareAndSwap(operation.Queued, operation.Taken) { // else its caller gave it up
			w.live--
			w.bytes -= o.Size
			if large {
				w.large = append(w.large, o)
				continue
			}
			batch = append(batch, o)
			bytes += o.Size
		}
	}
	left += copy(w.queue[left:], w.queue[n:])
	clear(w.queue[left:])
	w.queue = w.queue[:left]
	return batch
}

// giveBack puts operations back at the head of the queue.
func (w *Writer) giveBack(ops []*operation.Operation) {
	if len(ops) == 0 {
		return
	}
	w.mu.Lock()
	back := make([]*operation.Operation, 0, len(ops)+len(w.queue))
	for _, o := range ops {
		o.Drop()
		if o.Expired.Load() {
			o.Finish(o.Without())
			continue
		}
		if o.State.CompareAndSwap(operation.Taken, operation.Queued) {
			w.live++
			w.bytes += o.Size
			back = append(back, o)
		}
	}
	if w.lines != nil {
		for _, o := range slices.Backward(back) {
			w.linesFor(o).Back(o)
		}
	} else {
		w.queue = append(back, w.queue...)
	}
	w.mu.Unlock()
	w.wake()
}

// Run carries operations out until the context ends. What still waits then was not
// executed, and its callers are told so.
func (w *Writer) Run(ctx context.Context) {
	if w.Aside != nil {
		var aside sync.WaitGroup
		aside.Go(func() { w.Aside.Run(ctx) })
		aside.Go(func() { w.Deadlines.Run(ctx) })
		defer aside.Wait()
	}
	w.follow(ctx)
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	for batch := w.take(nil); len(batch) > 0; batch = w.take(nil) {
		for _, o := range batch {
			if o.Cause == nil {
				o.Cause = outcome.ErrClosed
			}
			o.Finish(o.Without())
		}
	}
}

// errTooManySlow is the cause of the refusal of a sender that has too much waiting already.
var errTooManySlow = fmt.Errorf("%d commands of this sender that are not brief wait already", turns.MaxWaiting)

// PutAside has an operation carried out aside that turned out to have a long answer (see
// operation.Maker.Enlarge), within the time that it has left. It returns what do returns.
func (w *Writer) PutAside(ctx context.Context, o *operation.Operation) (over bool, err error) {
	o.Expired.Store(false)
	o.State.Store(operation.Queued)
	ctx, cancel := context.WithDeadline(ctx, o.Until)
	defer cancel()
	return w.Do(ctx, o)
}
