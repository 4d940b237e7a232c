package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/rewrite"
	"holdfast/internal/redis/turns"
)

// gatherFrom is the size of a batch, in operations, above which a writer lets other
// goroutines run before it takes the next batch.
const gatherFrom = 4

// errUncertain ends a session whose master may have been replaced unheard.
var errUncertain = errors.New("no majority of Sentinels was heard, and not every other node is a replica of the master")

// follow carries operations out until the context ends: on one connection after another,
// each to the node that is the master then.
func (w *Writer) follow(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := w.monitor.Wait(ctx)
		if err != nil {
			break
		}
		if err := w.serve(ctx, s.Master); err != nil {
			w.monitor.Look()
			clock.Sleep(ctx, RetryPause)
		}
	}
}

// serve carries operations out at one master, on one connection, until the connection
// breaks or another node is the master. cause is why it ended.
func (w *Writer) serve(ctx context.Context, master string) (cause error) {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		w.watch(ctx, master)
		cancel()
	})
	defer watcher.Wait()
	defer cancel()

	l := w.cfg.ConnTo(master, conn.Pipelining)
	l.Kept = true // until it is known which process it leads to
	defer l.Stop()
	dedicated, release := l.Dedicate()
	defer release()
	defer l.Cut() // runs before release, which would wait for answers
	s := NewSession(w, master)
	s.conn = dedicated
	// The peer itself has to report that it is a master: the address may lead to another
	// process than when the monitor asked.
	words := dedicated.DoMulti(ctx, dedicated.B().Role().Build(), dedicated.B().Info().Section("server").Build())
	role, err := words[0].ToArray()
	if err != nil {
		return fmt.Errorf("ask %s for its role: %w", master, err)
	}
	standing, replicas, _ := discovery.ParseRole(role)
	if !standing.Master {
		return fmt.Errorf("%s is not a master any more", master)
	}
	info, _ := words[1].ToString() // it may be refused
	s.Process = conn.ProcessOf(info)
	s.origin = rewrite.OriginOf(cmp.Or(s.Process, master))
	var ready []string
	for _, r := range replicas {
		if r.Offset > 0 {
			ready = append(ready, r.Address)
		}
	}
	s.inSync = ack.NewInSync(ready...)
	if s.wire = l.Only(); s.wire == nil {
		return outcome.ErrLost
	}
	now, _ := w.monitor.Now()
	if w.last == master {
		// The last session with this master broke. The master and its replicas may have
		// been replaced since the monitor last asked.
		if now, err = w.monitor.Confirm(ctx); err != nil || now.Master != master {
			return outcome.ErrLost
		}
	}
	if !now.Certain() {
		// A session counts the replicas that the master has now. A replica that was
		// promoted unheard would not be among them.
		return errUncertain
	}
	w.last = master
	w.session.Store(s)
	defer func() {
		w.readLease.Store(nil)
		w.session.Store(nil)
		s.end(cause)
	}()
	var batch []*operation.Operation
	for {
		now, changed := w.monitor.Now()
		if now.Master != master {
			// Not one write on contradicting evidence. The watcher ends this
			// when another node is the master.
			select {
			case <-changed:
				continue
			case <-s.wire.Ended:
				return outcome.ErrLost
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if len(batch) > gatherFrom {
			// There is load. Clients that have just got an answer may send the next
			// request at once, and a larger batch costs hardly more.
			runtime.Gosched()
			runtime.Gosched()
		}
		batch = batch[:0]
		if len(s.done) < w.cfg.MaxHeld {
			batch = w.take(batch)
		}
		if len(batch) == 0 && len(s.done) == 0 {
			var ask <-chan time.Time
			if w.lines != nil {
				ask = w.waitsForLease()
			}
			select {
			case <-w.more:
				continue
			case <-ask:
				continue
			case <-s.wire.Ended:
				return outcome.ErrLost
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		began := time.Now()
		err := s.commit(ctx, batch)
		if w.lines != nil && len(batch) > 0 {
			took := time.Since(began)
			rest := s.leaseTime()
			if err != nil {
				// The node may have ended, and not because of the script.
				s.script, rest = turns.ScriptKilled, 0
			}
			own := took
			if s.leased != "" {
				own = s.trips.Own()
			}
			long := w.spent(took, own, s.script, rest)
			s.rest(took)
			if err == nil && long && s.leased == "" {
				s.keepOff(ctx)
			}
			if err == nil {
				s.endLease(ctx, took, own)
			}
		}
		clear(batch)
		if err != nil {
			return err
		}
		if s.spoiled != nil {
			return s.spoiled
		}
		if d := s.pause; d > 0 {
			s.pause = 0
			if !clock.Sleep(ctx, d) {
				return ctx.Err()
			}
		}
	}
}

// watch returns when another node is the master, when there has been no master for so
// long that nobody waits for an answer any more, or when the context ends.
func (w *Writer) watch(ctx context.Context, master string) {
	for {
		s, changed := w.monitor.Now()
		var late <-chan time.Time
		switch s.Master {
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
