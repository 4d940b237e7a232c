package commit

import (
	"time"

	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/turns"
)

// linesFor returns the lines that an operation waits in.
func (w *Writer) linesFor(o *operation.Operation) *turns.Lines {
	if o.Lasts {
		return w.lasting
	}
	return w.lines
}

// spent takes in how long a batch took. own, fate and long are those of lines.learn, and rest is
// that of senderLine.ran; with 0 no line rests.
func (w *Writer) spent(took, own time.Duration, fate turns.ScriptFate, rest time.Duration) (long bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if script := w.turn.Running; script.Key != 0 && fate != turns.ScriptNotRun && rest > 0 {
		w.lasting.Line(script.Sender).Ran(fate == turns.ScriptEnded, rest)
	}
	return w.turn.Spent(took, own, fate)
}

// waitsForLease returns when to ask for the lease again; nil: nothing needs it.
func (w *Writer) waitsForLease() <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lasting.There) == 0 {
		return nil
	}
	return time.After(time.Until(w.leaseAsked.Add(leaseAgain)))
}

// takeSlow is take for operations that are not brief. An operation that needs the lease is a batch
// of its own, when it is time to ask for the lease. Between two of them, the others have a batch.
func (w *Writer) takeSlow(batch []*operation.Operation) []*operation.Operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	due := w.ended || now.Sub(w.leaseAsked) >= leaseAgain
	if !due || w.turn == w.lasting {
		w.turn = w.lines
		if batch = w.takeFrom(batch, operation.SlowTogether, now); len(batch) > 0 || !due {
			return batch
		}
	}
	w.turn = w.lasting
	if batch = w.takeFrom(batch, 1, now); len(batch) > 0 {
		return batch
	}
	if len(w.lasting.There) > 0 {
		w.leaseAsked = now // what is there rests
	}
	w.turn = w.lines
	return w.takeFrom(batch, operation.SlowTogether, now)
}

// takeFrom takes so many operations at most from the lines whose turn it is. A guarded one is a
// batch of its own.
func (w *Writer) takeFrom(batch []*operation.Operation, most int, now time.Time) []*operation.Operation {
	w.turn.Shares = w.turn.Shares[:0]
	if w.ended {
		now = now.Add(time.Hour) // nothing rests any more
	}
	for len(batch) < most {
		line, o := w.turn.First(now)
		if o == nil || o.Guarded && len(batch) > 0 {
			break
		}
		w.turn.Pop(line)
		if !w.ended && now.After(o.Until) {
			continue // its caller takes it off the counts
		}
		if o.State.CompareAndSwap(operation.Queued, operation.Taken) { // else its caller gave it up
			w.live--
			w.bytes -= o.Size
			w.turn.Taken(line)
			batch = append(batch, o)
			if o.Guarded {
				break
			}
		}
	}
	return batch
}
