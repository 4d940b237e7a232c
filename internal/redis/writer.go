package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// Bounds of one batch, so that a batch is short and the pipeline's memory is
// bounded.
const (
	maxBatch      = 1024
	maxBatchBytes = 4 << 20
)

// retryPause lies between two attempts of writes that were turned down.
const retryPause = 25 * time.Millisecond

// writer is the group commit: the writes that wait go to the master in one
// pipeline on one connection, followed by one WAIT, which covers what was
// written on its own connection (manual, WAIT). While a batch is under way the
// next one gathers.
type writer struct {
	cfg     Config
	monitor *monitor
	// inSync is how many replicas must have the next batch.
	inSync atomic.Int64

	mu    sync.Mutex
	queue []*operation // with those that their callers gave up
	live  int          // without them
	ended bool
	more  chan struct{} // the queue is no longer empty

	// last is the master of the last session; it belongs to run.
	last string
}

func newWriter(cfg Config, m *monitor) *writer {
	return &writer{cfg: cfg, monitor: m, more: make(chan struct{}, 1)}
}

// waiting is how many writes wait in the queue.
func (w *writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live
}

// do has a write carried out and waits for its outcome, for Hold at most.
func (w *writer) do(ctx context.Context, o *operation) error {
	w.mu.Lock()
	switch {
	case w.ended:
		w.mu.Unlock()
		return &Error{NotExecuted, errClosed}
	case w.live >= w.cfg.MaxHeld:
		w.mu.Unlock()
		return &Error{Overloaded, errTooManyHeld}
	}
	o.until = time.Now().Add(w.cfg.Hold)
	w.queue = append(w.queue, o)
	w.live++
	w.mu.Unlock()
	w.wake()

	deadline := time.NewTimer(w.cfg.Hold)
	defer deadline.Stop()
	select {
	case err := <-o.done:
		return err
	case <-deadline.C:
	case <-ctx.Done():
	}
	// Give it up. Whether it may have happened depends on who has it.
	if o.state.CompareAndSwap(queued, finished) {
		w.forget()
		return o.without()
	}
	// The writer has it. One more WAIT's time, and it mostly knows.
	o.expired.Store(true)
	deadline.Reset(2 * w.cfg.AckTimeout)
	select {
	case err := <-o.done:
		return err
	case <-deadline.C:
	}
	for {
		switch {
		case o.state.CompareAndSwap(taken, finished):
			return &Error{Unknown, errNoAck}
		case o.state.CompareAndSwap(queued, finished): // given back before expired was set
			w.forget()
			return o.without()
		case o.state.Load() == finished:
			return <-o.done
		}
	}
}

// forget takes account of one operation in the queue that its caller gave up.
func (w *writer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live--
	if len(w.queue) > 2*w.live+64 {
		w.queue = slices.DeleteFunc(w.queue, func(o *operation) bool { return o.state.Load() == finished })
	}
}

func (w *writer) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// take takes the next batch from the queue; empty when there is none.
func (w *writer) take() []*operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch []*operation
	bytes, n := 0, 0
	now := time.Now()
	for _, o := range w.queue {
		if len(batch) == maxBatch || len(batch) > 0 && bytes+o.size > maxBatchBytes {
			break
		}
		n++
		if !w.ended && now.After(o.until) {
			continue // its caller takes account of it
		}
		if o.state.CompareAndSwap(queued, taken) { // else its caller gave it up
			w.live--
			batch = append(batch, o)
			bytes += o.size
		}
	}
	left := copy(w.queue, w.queue[n:])
	clear(w.queue[left:])
	w.queue = w.queue[:left]
	return batch
}

// giveBack puts operations back at the head of the queue.
func (w *writer) giveBack(ops []*operation) {
	if len(ops) == 0 {
		return
	}
	w.mu.Lock()
	back := make([]*operation, 0, len(ops)+len(w.queue))
	for _, o := range ops {
		if o.expired.Load() {
			o.finish(o.without())
			continue
		}
		if o.state.CompareAndSwap(taken, queued) {
			w.live++
			back = append(back, o)
		}
	}
	w.queue = append(back, w.queue...)
	w.mu.Unlock()
	w.wake()
}

// run carries writes out until the context ends; what waits then was not
// executed.
func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := w.monitor.wait(ctx)
		if err != nil {
			break
		}
		if err := w.serve(ctx, s.master); err != nil {
			w.monitor.look()
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
	}
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	for batch := w.take(); len(batch) > 0; batch = w.take() {
		for _, o := range batch {
			if o.cause == nil {
				o.cause = errClosed
			}
			o.finish(o.without())
		}
	}
}

// serve writes to one master on one connection, until the connection or the
// mastership ends.
func (w *writer) serve(ctx context.Context, master string) error {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		w.watch(ctx, master)
		cancel()
	})
	defer watcher.Wait()
	defer cancel()

	l := newLink(w.cfg, master, pipelining)
	defer l.close()
	conn, release := l.Dedicate()
	defer release()
	defer l.cut() // before release, which would wait for answers
	s := &session{w: w, master: master, conn: conn, behind: map[string]int64{}}
	// The peer itself has to be a master: an address may lead elsewhere than
	// it did when the monitor asked.
	role, err := conn.Do(ctx, conn.B().Role().Build()).ToArray()
	if err != nil {
		return fmt.Errorf("ask %s for its role: %w", master, err)
	}
	if standing, _, _ := parseRole(role); !standing.Master {
		return fmt.Errorf("%s is not a master any more", master)
	}
	if s.wire = l.only(); s.wire == nil {
		return errLost
	}
	now, _ := w.monitor.now()
	if w.last == master {
		// The last session with it broke: it may have been replaced since
		// anybody asked, and its replicas with it.
		if now, err = w.monitor.confirm(ctx); err != nil || now.master != master {
			return errLost
		}
	}
	if !now.certain() {
		// A session counts the replicas that the master has now: one that was
		// promoted unheard would not be among them.
		return errUncertain
	}
	w.last = master
	for {
		now, changed := w.monitor.now()
		if now.master != master {
			// Not one write on contradicting evidence. The watcher ends this
			// when another node is the master.
			select {
			case <-changed:
				continue
			case <-s.wire.ended:
				return errLost
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		batch := w.take()
		if len(batch) == 0 {
			select {
			case <-w.more:
				continue
			case <-s.wire.ended:
				return errLost
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := s.commit(ctx, batch); err != nil {
			return err
		}
	}
}

// watch returns when another node is the master, when there has been none for
// so long that nobody waits for an answer any more, or when the context ends.
func (w *writer) watch(ctx context.Context, master string) {
	for {
		s, changed := w.monitor.now()
		var late <-chan time.Time
		switch s.master {
		case master:
		case "":
			t := time.NewTimer(w.cfg.Hold)
			defer t.Stop()
			late = t.C
		default:
			return
		}
		select {
		case <-changed:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// session is one connection to one master.
type session struct {
	w      *writer
	master string
	conn   rueidis.DedicatedClient
	wire   *wire
	loaded bool // the script was run here
	// expect is how many replicas have to have a batch. It grows when a
	// replica is online and has caught up, and shrinks only by a miss.
	expect int
	// behind are the replicas that missed a deadline, and the offset that
	// brings each of them back.
	behind map[string]int64
}

// commit writes one batch and gives each of its operations its outcome, or
// back to the queue. An error ends the session.
func (s *session) commit(ctx context.Context, batch []*operation) error {
	// After Hold nobody waits for this batch any more. A connection that is
	// silent for so long, while the monitor's own say that the master is well,
	// leads nowhere (its packets are dropped): only a new one helps.
	ctx, cancel := context.WithTimeout(ctx, s.w.cfg.Hold+4*s.w.cfg.AckTimeout)
	defer cancel()
	s.grow()
	cmds := make(rueidis.Commands, 0, len(batch)+1)
	for _, o := range batch {
		cmds = append(cmds, o.command(s.conn.B(), s.loaded))
	}
	if s.expect > 0 {
		cmds = append(cmds, s.wait(s.expect))
	}
	mark := s.wire.written()
	answers := s.conn.DoMulti(ctx, cmds...)
	sent := true
	if answers[len(answers)-1].NonRedisError() != nil {
		// The connection is broken or given up. Nothing more may leave it, or
		// what is held for not sent might be sent yet.
		sent = s.wire.seal() > mark
	}

	var (
		done  = make([]*operation, 0, len(batch))
		again []*operation
		ended error
		err   error
	)
	for i, o := range batch {
		cause := answers[i].Error()
		switch fateOf(cause, sent) {
		case executed:
			done = append(done, o)
			if o.scripted {
				s.loaded = true
			}
		case refused:
			o.finish(o.refusal(cause))
		case retry:
			if reply, ok := rueidis.IsRedisErr(cause); ok && reply.IsNoScript() {
				s.loaded = false
			} else {
				ended = cause
			}
			o.cause = cause
			again = append(again, o)
		case lost:
			ended = errLost
			again = append(again, s.lose(errLost, o)...)
		}
	}
	if len(done) > 0 {
		if s.expect > 0 {
			acks, waitErr := answers[len(batch)].AsInt64()
			err = s.settle(ctx, done, int(acks), waitErr)
		} else {
			ack(done)
		}
		if err != nil {
			again = append(s.lose(err, done...), again...)
			ended = err
		}
	}
	s.w.giveBack(again)
	return ended
}

// settle acknowledges operations that the master has executed once enough
// replicas have them. It answers an error when that cannot be known here.
func (s *session) settle(ctx context.Context, done []*operation, acks int, err error) error {
	for {
		need := max(1, s.w.cfg.MinAcks)
		switch {
		case err != nil:
			return fmt.Errorf("%w (%w)", errLost, err)
		case acks >= s.expect:
			ack(done)
			return nil
		case acks >= s.w.cfg.MinAcks:
			// A replica has missed the deadline. It may be slow or dead, or
			// it was promoted: then this master is one no more, and what it
			// acknowledges would be lost. Asked after the miss, the nodes
			// tell.
			now, err := s.w.monitor.confirm(ctx)
			if err != nil || now.master != s.master {
				return errLost
			}
			if now.certain() {
				s.shrink(now.node(), acks)
				ack(done)
				return nil
			}
			need = s.expect
		}
		if now, _ := s.w.monitor.now(); now.master != "" && now.master != s.master {
			return errLost
		}
		if abandoned(done) {
			return nil
		}
		acks64, waitErr := s.conn.Do(ctx, s.wait(need)).AsInt64()
		acks, err = int(acks64), waitErr
	}
}

// lose deals with operations of which nobody knows whether they happened:
// those that may be sent again are answered, the outcome of the others is
// unknown.
func (s *session) lose(cause error, ops ...*operation) (again []*operation) {
	for _, o := range ops {
		if !o.again {
			o.finish(&Error{Unknown, cause})
			continue
		}
		o.sent, o.cause = true, cause
		again = append(again, o)
	}
	return again
}

func (s *session) wait(replicas int) rueidis.Completed {
	return s.conn.B().Wait().Numreplicas(int64(replicas)).Timeout(s.w.cfg.AckTimeout.Milliseconds()).Build()
}

// grow counts the replicas that are in sync: online at the master, heard of at
// least once, and not behind.
func (s *session) grow() {
	now, _ := s.w.monitor.now()
	n := 0
	for _, r := range now.node().replicas {
		if mark, ok := s.behind[r.addr]; ok && r.offset >= mark {
			delete(s.behind, r.addr)
		}
		if _, ok := s.behind[r.addr]; !ok && r.offset > 0 {
			n++
		}
	}
	s.expect = max(s.expect, n, s.w.cfg.MinAcks)
	s.w.inSync.Store(int64(s.expect))
}

// shrink takes the replicas out of the in-sync set that did not confirm a
// write: all but the acks furthest ones. Each comes back when it has what the
// master has now.
func (s *session) shrink(master nodeView, acks int) {
	replicas := slices.Clone(master.replicas)
	slices.SortFunc(replicas, func(a, b replicaView) int { return cmp.Compare(b.offset, a.offset) })
	clear(s.behind)
	for _, r := range replicas[min(acks, len(replicas)):] {
		s.behind[r.addr] = master.offset
	}
	s.expect = max(acks, s.w.cfg.MinAcks)
	s.w.inSync.Store(int64(s.expect))
}

func ack(ops []*operation) {
	for _, o := range ops {
		o.finish(nil)
	}
}

// abandoned says that nobody waits for any of the operations.
func abandoned(ops []*operation) bool {
	for _, o := range ops {
		if o.state.Load() != finished {
			return false
		}
	}
	return true
}
