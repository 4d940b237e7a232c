package load

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/history"
)

// Some clients of a node only write and some only read, so that a writer does not make the node
// notice, for the readers, that the master has lost its role. Their writes have no key, and are
// sent once.
func TestANodeIsAskedDirectlyWithoutKeysAndBesideTheRate(t *testing.T) {
	entry, node := newService(t), newService(t)
	cfg := config(entry.url)
	cfg.Rate = 200
	reached := new(atomic.Int64)
	cfg.Nodes = []Node{{Name: "web-1", URL: node.url, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		reached.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}}
	l := newLoad(t, cfg)
	ops := run(t, l, 2*time.Second)

	reads, values := map[int]bool{}, map[string]bool{}
	of, direct := 0, 0
	for _, op := range ops {
		if op.Value != "" && values[op.Value] {
			t.Fatalf("%s is written twice", op.Value)
		}
		values[op.Value] = true
		if !op.Direct {
			of++
			continue
		}
		direct++
		if op.Outcome != history.OK || op.Entry != node.url || op.Once || op.Client < cfg.Clients {
			t.Fatalf("an operation of the node's is %+v", op)
		}
		if is, known := reads[op.Client]; known && is != (op.Verb == history.Read) {
			t.Fatalf("client %d reads and writes", op.Client)
		}
		reads[op.Client] = op.Verb == history.Read
	}
	if len(reads) != directWriters+directReaders || reached.Load() != directReaders {
		t.Errorf("%d clients, and %d connected as those that read", len(reads), reached.Load())
	}
	if p := l.Progress(); p.Sent != of || p.OK != of {
		t.Errorf("of %d operations on the entry and %d on the node the progress counts %d", of, direct, p.Sent)
	}
	if most := int(directShare * float64(cfg.Rate) * 2); direct > most || direct < most/2 {
		t.Errorf("%d operations on the node, want about %d", direct, most)
	}
	for _, a := range node.requests {
		if a.header.Get("Idempotency-Key") != "" {
			t.Fatalf("a request to the node has the header %v", a.header)
		}
	}
}

func TestADeadNodeIsLeftAloneUntilTheNextOperation(t *testing.T) {
	s := newService(t)
	cfg := config(s.url)
	cfg.Nodes = []Node{{Name: "web-1", URL: refusing(t)}}
	began := time.Now()
	failed := 0
	for _, op := range run(t, newLoad(t, cfg), time.Second) {
		switch {
		case op.Direct && (op.Outcome != history.Failed || op.Tries != 0):
			t.Fatalf("an operation on a node that nobody listens for is %+v", op)
		case op.Direct:
			failed++
		case op.Outcome != history.OK:
			t.Fatalf("the entry is well: %+v", op)
		}
	}
	if took := time.Since(began); failed < directWriters+directReaders || took > 30*time.Second {
		t.Errorf("%d operations, and it took %v", failed, took)
	}
}

func TestANodeWithoutAPortIsRefused(t *testing.T) {
	cfg := config("http://x")
	cfg.Nodes = []Node{{Name: "web-1", URL: "http://web-1"}}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "web-1") {
		t.Errorf("%v", err)
	}
}
