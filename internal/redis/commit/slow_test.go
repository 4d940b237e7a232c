package commit

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/turns"
)

// slowWriter is one that has slow operations of senders waiting, in that order.
func slowWriter(t *testing.T, senders string) *Writer {
	t.Helper()
	w := New(config.Config{}.WithDefaults(), nil).Aside
	for _, sender := range strings.Split(senders, "") {
		if err := w.put(&operation.Operation{Sender: sender, Until: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// batchOf takes a batch, of which the first n cost what is said and the others go
// back, and returns the senders of those.
func batchOf(w *Writer, n int, cost time.Duration) string {
	batch := w.take(nil)
	n = min(n, len(batch))
	var senders string
	for _, o := range batch[:n] {
		senders += o.Sender
		o.Weight = cost
	}
	w.lines.Weighed(batch[:n])
	w.giveBack(batch[n:])
	w.lines.Spent(time.Duration(n)*cost, time.Duration(n)*cost, turns.ScriptEnded)
	return senders
}

func TestSendersAreServedInTurn(t *testing.T) {
	w := slowWriter(t, "aaaaaaaaab")
	if got := batchOf(w, 1, 100*time.Millisecond); got != "a" {
		t.Errorf("the first is %s", got)
	}
	if got := batchOf(w, 2, time.Millisecond); got != "ba" {
		t.Errorf("then come %s", got)
	}
	// A sender that comes anew begins where the others are: none gathers a claim by not
	// asking for anything.
	for _, sender := range []string{"c", "b", "b"} {
		if err := w.put(&operation.Operation{Sender: sender, Until: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := batchOf(w, 10, time.Millisecond); strings.Count(got[:5], "b") != 2 || strings.Count(got[:5], "c") != 1 {
		t.Errorf("then come %s", got)
	}
	if rest := w.take(nil); len(rest) != 0 || w.Waiting() != 0 {
		t.Errorf("%d are left, %d are said to wait", len(rest), w.Waiting())
	}
}

func TestAnOperationThatGoesBackKeepsItsPlace(t *testing.T) {
	w := New(config.Config{}.WithDefaults(), nil).Aside
	for i := range 5 {
		if err := w.put(&operation.Operation{Sender: "a", Base: i, Until: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		batch := w.take(nil)
		if len(batch) != 5-i || batch[0].Base != i {
			t.Fatalf("%d are taken, the first is %d", len(batch), batch[0].Base)
		}
		w.giveBack(batch[1:])
	}
}

// What waits for the lease is a batch of its own, once in a while, and stands in no
// other sender's way.
func TestWhatWaitsForTheLeaseHoldsNobodyUp(t *testing.T) {
	w := New(config.Config{}.WithDefaults(), nil).Aside
	for _, o := range []*operation.Operation{{Sender: "a", Guarded: true}, {Sender: "b"}, {Sender: "b"}} {
		o.Until = time.Now().Add(time.Minute)
		if err := w.put(o); err != nil {
			t.Fatal(err)
		}
	}
	batch := w.take(nil)
	if len(batch) != 1 || !batch[0].Guarded {
		t.Fatalf("the first batch has %d operations", len(batch))
	}
	batch[0].Lasts = true // as weigh finds out
	w.giveBack(batch)
	if batch = w.take(nil); len(batch) != 1 || batch[0].Sender != "a" {
		t.Fatalf("the next batch has %d operations, the first is %s's: what needs the lease is to ask for it", len(batch), batch[0].Sender)
	}
	w.giveBack(batch)
	if batch = w.take(nil); len(batch) != 2 || batch[0].Sender != "b" {
		t.Fatalf("then %d go that do not need it", len(batch))
	}
	w.giveBack(batch)
	w.leaseAsked = time.Now().Add(time.Minute) // another node has it
	for range 2 {
		if batch = w.take(nil); len(batch) != 2 || batch[0].Sender != "b" {
			t.Fatalf("while another node has it, %d go", len(batch))
		}
		w.giveBack(batch)
	}
	if w.Waiting() != 3 || w.waitsForLease() == nil {
		t.Errorf("%d wait", w.Waiting())
	}

	// After a script that had to be ended its sender leaves the lease to others.
	w.leaseAsked = time.Time{}
	w.lasting.Line("a").Ran(false, time.Hour)
	if batch = w.take(nil); len(batch) != 2 || batch[0].Sender != "b" {
		t.Errorf("while a rests, %d go", len(batch))
	}
	if w.leaseAsked.IsZero() {
		t.Error("a line that rests is looked at again at once")
	}
	w.ended = true
	if batch = w.take(nil); len(batch) != 1 || batch[0].Sender != "a" {
		t.Errorf("in the end %d are left", len(batch))
	}
}

func TestOneSenderHasSoManySlowCommandsWaiting(t *testing.T) {
	w := slowWriter(t, strings.Repeat("a", turns.MaxWaiting))
	err := w.put(&operation.Operation{Sender: "a"})
	if outcome.KindOf(err) != outcome.Overloaded || !strings.Contains(err.Error(), strconv.Itoa(turns.MaxWaiting)) {
		t.Errorf("one more: %v", err)
	}
	if err := w.put(&operation.Operation{Sender: "b"}); err != nil {
		t.Errorf("another's: %v", err)
	}
	for range 2 { // an operation that is given up makes room
		line, o := w.lines.First(time.Now())
		o.State.Store(operation.Finished)
		w.lines.Pop(line)
		w.forget(o)
	}
	if err := w.put(&operation.Operation{Sender: "a"}); err != nil {
		t.Errorf("after others were given up: %v", err)
	}
}
