package agree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestWhatIsWrittenAtTheLeaderIsThereOnAllHosts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"stack": []byte("one host"), "changes/1": []byte("first")}, "one", "two", "three")
	ctx := within(t, patience)
	l := c.leader()

	for _, h := range c.hosts {
		h.has("stack", "one host") // what the single host had
	}
	doc, ok, err := l.host.Get(ctx, "stack")
	if err != nil || !ok || doc.Stale {
		t.Fatalf("%+v %t %v", doc, ok, err)
	}
	revision, err := l.host.Put(ctx, l.term, "stack", []byte("three hosts"), doc.Revision)
	if err != nil || revision <= doc.Revision {
		t.Fatalf("revision %d after %d: %v", revision, doc.Revision, err)
	}
	if doc, _, err := l.host.Get(ctx, "stack"); err != nil || string(doc.Data) != "three hosts" || doc.Revision != revision {
		t.Errorf("%+v %v", doc, err)
	}
	for _, h := range c.hosts {
		h.has("stack", "three hosts")
		if doc, _ := h.GetStale("stack"); !doc.Stale {
			t.Errorf("what %s has is not marked as stale", h.name)
		}
	}

	_, err = l.host.Put(ctx, l.term, "stack", []byte("late"), doc.Revision)
	wants(t, err, ErrConflict)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Have != revision || conflict.Want != doc.Revision {
		t.Errorf("%+v", conflict)
	}
	wants(t, l.host.Delete(ctx, l.term, "stack", doc.Revision), ErrConflict)
	_, err = l.host.Put(ctx, l.term, "stack", nil, 0)
	wants(t, err, ErrConflict)

	other := c.others(l.host)[0]
	_, err = other.Put(ctx, l.term, "stack", []byte("elsewhere"), revision)
	var elsewhere *NotLeaderError
	if !errors.As(err, &elsewhere) || elsewhere.Leader.Address != l.host.address || elsewhere.Leader.Name != l.host.name {
		t.Errorf("%v: want the leader's address %s", err, l.host.address)
	}
	_, _, err = other.Get(ctx, "stack")
	wants(t, err, ErrNotLeader)

	if err := l.host.Delete(ctx, l.term, "stack", revision); err != nil {
		t.Fatal(err)
	}
	if found, err := l.host.List(ctx, ""); err != nil || len(found) != 1 || found[0].Name != "changes/1" {
		t.Errorf("%+v %v", found, err)
	}
	soon(t, "the deletion everywhere", func() bool {
		for _, h := range c.hosts {
			if _, ok := h.GetStale("stack"); ok {
				return false
			}
		}
		return true
	})
}

func TestABatchIsMadeWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"a": []byte("1")}, "one")
	ctx, l := within(t, patience), c.leader()
	at, _, _ := l.host.Get(ctx, "a")

	_, err := l.host.Write(ctx, l.term,
		Change{Name: "b", Data: []byte("2")},
		Change{Name: "a", Delete: true, Revision: at.Revision + 1})
	wants(t, err, ErrConflict)
	if found, _ := l.host.List(ctx, ""); len(found) != 1 {
		t.Errorf("a part of it was made: %+v", found)
	}

	_, events := l.host.Watch(ctx)
	revision, err := l.host.Write(ctx, l.term,
		Change{Name: "b", Data: []byte("2")},
		Change{Name: "a", Delete: true, Revision: at.Revision})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-events; len(got) != 2 || got[0].Name != "b" || got[0].Revision != revision || !got[1].Deleted {
		t.Errorf("%+v", got)
	}
	// The same document twice: the second change sees the first.
	if _, err := l.host.Write(ctx, l.term, Change{Name: "c", Data: []byte("1")}, Change{Name: "c", Data: []byte("2")}); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
}

func TestLimitsAreKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	ctx, l := within(t, patience), c.leader()
	big := bytes.Repeat([]byte{1}, MaxDocument)
	_, err := l.host.Put(ctx, l.term, "big", append(big, 1), 0)
	wants(t, err, ErrTooLarge)
	_, err = l.host.Write(ctx, l.term, Change{Name: "1", Data: big}, Change{Name: "2", Data: big}, Change{Name: "3", Data: big}, Change{Name: "4", Data: big})
	wants(t, err, ErrTooLarge)
	for _, name := range []string{"", "a\nb", string(big)} {
		if _, err := l.host.Put(ctx, l.term, name, nil, 0); err == nil {
			t.Errorf("the name %.10q was taken", name)
		}
	}
	wants(t, Bootstrap(t.TempDir(), "one", "127.0.0.1:1", map[string][]byte{"big": append(big, 1)}), ErrTooLarge)
}

func TestAllDocumentsTogetherHaveALimit(t *testing.T) {
	t.Parallel()
	d := newDocuments(nil, func() {})
	index := uint64(0)
	write := func(change Change) error {
		index++
		entry := &raft.Log{Type: raft.LogCommand, Term: 1, Index: index}
		entry.Data = command{Version: commandVersion, Term: 1, Changes: []Change{change}}.encode()
		return d.Apply(entry).(result).err
	}
	big := make([]byte, MaxDocument)
	for i := range MaxAll/MaxDocument - 1 {
		if err := write(Change{Name: fmt.Sprint(i), Data: big}); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, write(Change{Name: "one too many", Data: big}), ErrTooLarge)
	wants(t, write(Change{Name: "small", Data: []byte("x")}), nil)
	wants(t, write(Change{Name: "3", Delete: true, Revision: AnyRevision}), nil)
	wants(t, write(Change{Name: "in its place", Data: big}), nil)
	if _, there := d.get("one too many"); there {
		t.Error("what was refused is there")
	}
}

func TestOfTwoOperatorsAtOnceOneHasAConflict(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"generation": []byte("0")}, "one", "two", "three")
	ctx, l := within(t, patience), c.leader()
	doc, _, err := l.host.Get(ctx, "generation")
	if err != nil {
		t.Fatal(err)
	}

	for round := range 20 {
		var both sync.WaitGroup
		revisions, errs := make([]uint64, 2), make([]error, 2)
		for i := range 2 {
			both.Go(func() {
				revisions[i], errs[i] = l.host.Put(ctx, l.term, "generation", fmt.Append(nil, round, i), doc.Revision)
			})
		}

		both.Wait()
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil || !errors.Is(errs[1-won], ErrConflict) {
			t.Fatal(errs)
		}
		if doc, _, err = l.host.Get(ctx, "generation"); err != nil || doc.Revision != revisions[won] || string(doc.Data) != fmt.Sprint(round, won) {
			t.Fatalf("%+v %v, and %d won", doc, err, won)
		}
	}
}

func TestAWatcherHearsAllInOrderAndASlowOneIsDropped(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"n": []byte("0")}, "one", "two")
	ctx, l := within(t, patience), c.leader()
	other := c.others(l.host)[0]

	watching, end := context.WithCancel(ctx)
	first, events := other.Watch(watching)
	slow, tooMany := l.host.Watch(ctx)

	for i := range watcherRoom + 10 {
		if _, err := l.host.Put(ctx, l.term, "n", fmt.Append(nil, i+1), AnyRevision); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 || i >= watcherRoom {
			for len(events) > 0 {
				at := (<-events)[0].Document
				if at.Revision <= first[0].Revision {
					t.Fatalf("revision %d after %d", at.Revision, first[0].Revision)
				}
				first[0] = at
			}
		}
	}

	soon(t, "the last change", func() bool {
		select {
		case at, open := <-events:
			if !open {
				t.Fatal("one that reads was dropped")
			}
			first[0] = at[0].Document
		default:
		}
		return string(first[0].Data) == fmt.Sprint(watcherRoom+10)
	})

	end()
	soon(t, "the end of a watch", func() bool {
		select {
		case _, open := <-events:
			return !open
		default:
			return false
		}
	})

	heard := 0
	for range tooMany {
		heard++
	}
	if heard != watcherRoom || len(slow) != 1 {
		t.Errorf("the slow one heard %d changes", heard)
	}
}

func TestAllThreeComeBackAfterAllWereStopped(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	c.put("generation", "7")
	before := c.leader().term
	for _, h := range c.hosts {
		h.halt()
	}
	for _, h := range c.hosts {
		h.start()
	}
	l := c.leader()
	if l.term <= before {
		t.Errorf("term %d after term %d", l.term, before)
	}
	if doc, _, err := l.host.Get(within(t, patience), "generation"); err != nil || string(doc.Data) != "7" {
		t.Errorf("%+v %v", doc, err)
	}
}

func TestAStoppedLeaderHandsOverFirst(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	var running, most int
	c.mu.Lock()
	c.lead = func(ctx context.Context, h *host, term uint64) {
		c.mu.Lock()
		running++
		most = max(most, running)
		c.mu.Unlock()
		<-ctx.Done()
		// A supervisor that ends its work may still write.
		if context.Cause(ctx) == ErrStopped {
			if _, err := h.Put(context.WithoutCancel(ctx), term, "last word", []byte(h.name), AnyRevision); err != nil {
				t.Error(err)
			}
		}
		c.mu.Lock()
		running--
		c.mu.Unlock()
	}
	c.mu.Unlock()

	first := c.leader()
	if err := first.host.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}

	// Others that were not asked would still wait for its heartbeat.
	first.host.Member = nil
	if a, b := c.others(nil)[0].Status(), c.others(nil)[1].Status(); max(a.Term, b.Term) <= first.term {
		t.Errorf("nobody was asked to lead: terms %d and %d", a.Term, b.Term)
	}
	first.host.start()

	second := c.leader()
	if err := second.host.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	stopped := second.host.name
	second.host.Member = nil
	third := c.leader()
	if third.host == second.host || third.term <= second.term {
		t.Errorf("%s in term %d after %s in term %d", third.host.name, third.term, second.host.name, second.term)
	}
	if doc, _, err := third.host.Get(within(t, patience), "last word"); err != nil || string(doc.Data) != stopped {
		t.Errorf("%+v %v", doc, err)
	}
	if most > 1 {
		t.Errorf("%d led at once", most)
	}
}

func TestALeadThatReturnsGivesAnotherMemberTheLead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two")
	first := c.leader()
	why := errors.New("asked by an operator")
	first.host.Resign(why)
	<-first.ctx.Done()
	if context.Cause(first.ctx) != why {
		t.Error(context.Cause(first.ctx))
	}
	next := c.leader(c.others(first.host)...)
	if next.term <= first.term {
		t.Errorf("term %d after %d", next.term, first.term)
	}
}

func TestAloneAMemberLeadsOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	first := c.leader()
	first.host.Resign(errors.New("there is nobody else"))
	soon(t, "another lead", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.leads) > 1
	})
	c.put("a", "1")
}

func TestALeaderWhoseClockJumpsHandsOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	l := c.leader()

	var mu sync.Mutex
	jumps := map[*host]time.Duration{}
	for _, h := range c.hosts {
		h.halt()
		h.prepare = func(m *Member) {
			m.wall = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Round(0).Add(jumps[h])
			}
		}
	}

	for _, h := range c.hosts {
		h.start()
	}

	l = c.leader()
	mu.Lock()
	jumps[l.host] = -time.Hour
	mu.Unlock()

	next := c.leader(c.others(l.host)...)
	if l.ctx.Err() == nil || next.term <= l.term {
		t.Errorf("term %d after %d, %v", next.term, l.term, l.ctx.Err())
	}
}
