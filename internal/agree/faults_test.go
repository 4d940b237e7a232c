package agree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestAMinorityChangesNothingAndItsLeaderStepsDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	c.put("a", "before")
	old := c.leader()
	c.cut(old.host, true)

	// Right after the cut a write is not acknowledged, and its outcome is unknown.
	_, err := old.host.Put(within(t, 200*time.Millisecond), old.term, "a", []byte("of the minority"), AnyRevision)
	wants(t, err, ErrUnknownOutcome)
	wants(t, err, ErrNoMajority)

	select {
	case <-old.ctx.Done():
	case <-time.After(patience):
		t.Fatal("its context did not end")
	}
	_, _, err = old.host.Get(within(t, 200*time.Millisecond), "a")
	wants(t, err, ErrNoMajority)
	_, err = old.host.Put(within(t, patience), old.term, "a", nil, AnyRevision)
	wants(t, err, ErrNotLeader)
	if doc, ok := old.host.GetStale("a"); !ok || string(doc.Data) != "before" || !doc.Stale {
		t.Errorf("%+v", doc)
	}

	next := c.leader(c.others(old.host)...)
	if _, err := next.host.Put(within(t, patience), next.term, "a", []byte("of the majority"), AnyRevision); err != nil {
		t.Fatal(err)
	}
	c.cut(old.host, false)
	old.host.has("a", "of the majority")
	if next.ctx.Err() != nil {
		t.Error("the one that came back disturbed the leader")
	}
}

func TestALeaderThatIsCutOffEndsBeforeTheNextOneBegins(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	old := c.leader()
	ended := make(chan time.Time, 1)
	context.AfterFunc(old.ctx, func() { ended <- time.Now() })
	c.cut(old.host, true)
	next := c.leader(c.others(old.host)...)
	// The order is not guaranteed on a busy machine, and nothing depends on it,
	// because a late write is refused. So the test allows two seconds of overlap.
	if late := (<-ended).Sub(next.began); late > 2*time.Second {
		t.Errorf("the old one ended %s after the new one began", late)
	}
}

func TestALateWriteOfALeaderThatWasReplacedIsRefusedByTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"a": []byte("1")}, "one", "two", "three")
	first := c.leader()
	first.host.Resign(errors.New("test"))
	c.leader(c.others(first.host)...).host.Resign(errors.New("test"))
	soon(t, "the first leader's return", func() bool {
		l := c.leader()
		if l.host != first.host {
			l.host.Resign(errors.New("test"))
			return false
		}
		return true
	})
	again := c.leader(first.host)

	// The same host leads again, so raft accepts its proposal. But the write carries
	// its first term.
	ctx := within(t, patience)
	late := command{Version: commandVersion, Term: first.term, Changes: []Change{{Name: "a", Data: []byte("late"), Revision: AnyRevision}}}
	r, err := again.host.propose(ctx, late)
	if err != nil || !errors.Is(r.err, ErrNotLeader) || r.term != again.term {
		t.Fatalf("%+v %v", r, err)
	}
	if doc, _, err := again.host.Get(ctx, "a"); err != nil || string(doc.Data) != "1" {
		t.Errorf("%s %v", doc.Data, err)
	}
	_, err = again.host.Put(ctx, first.term, "a", []byte("late"), AnyRevision)
	wants(t, err, ErrNotLeader)
}

func TestWhatIsAcknowledgedWhileHostsFlapIsNotLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	stop := make(chan struct{})
	flapped := make(chan struct{})
	go func() {
		defer close(flapped)
		for i := 0; ; i++ {
			h := c.hosts[[]string{"one", "two", "three"}[i%3]]
			c.cut(h, true)
			time.Sleep(time.Duration(200+i*137%900) * time.Millisecond)
			c.cut(h, false)
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()

	acknowledged := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		c.mu.Lock()
		l := c.leads[len(c.leads)-1]
		c.mu.Unlock()
		if _, err := l.host.Put(within(t, time.Second), l.term, fmt.Sprintf("n/%06d", acknowledged), []byte("x"), AnyRevision); err == nil {
			acknowledged++
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
	close(stop)
	<-flapped

	c.put("last", "1")
	found, err := c.leader().host.List(within(t, patience), "n/")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d acknowledged, %d there, %d leads", acknowledged, len(found), len(c.leads))
	if len(found) < acknowledged || acknowledged == 0 {
		t.Errorf("%d were acknowledged, %d are there", acknowledged, len(found))
	}
	for i := range acknowledged {
		if _, ok := c.leader().host.GetStale(fmt.Sprintf("n/%06d", i)); !ok {
			t.Errorf("n/%06d was acknowledged and is lost", i)
		}
	}
}

func TestAMemberWithAnEmptyDiskHasNoVoteUntilItIsAddedAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	c.put("a", "1")
	old := c.leader()
	blank, third := c.others(old.host)[0], c.others(old.host)[1]
	before := Peer{Name: blank.name, ID: blank.ID(), Address: blank.address}

	blank.halt()
	if err := os.RemoveAll(blank.dir); err != nil {
		t.Fatal(err)
	}
	blank.start()
	if blank.ID() == before.ID || blank.Status().Member {
		t.Fatalf("%s after %s, %+v", blank.ID(), before.ID, blank.Status())
	}
	_, err := old.host.Probe(within(t, patience), before)
	wants(t, err, ErrOtherIncarnation)

	// Only one member with the documents is left. If the blank one still had the vote
	// of its old identity, the two would be a majority with one copy of the documents.
	third.halt()
	soon(t, "the loss of the majority", func() bool { return old.ctx.Err() != nil })
	if _, err := old.host.Leader(within(t, 4*silenceTimeout)); !errors.Is(err, ErrNoMajority) {
		t.Fatalf("a leader by the vote of an empty disk: %v", err)
	}
	third.start()
	now := c.leader(old.host, third)

	wants(t, ignoreOther(now.host.Add(within(t, patience), blank.ID(), blank.address)), nil)
	if err := now.host.Replace(within(t, patience), blank.ID(), blank.address); err != nil {
		t.Fatal(err)
	}
	blank.has("a", "1")
	if got := names(now.host.Members()); got != "one three two" {
		t.Errorf("the members are %s", got)
	}
	// The replaced member counts for the majority again.
	third.halt()
	c.put("a", "2")
}

// ignoreOther returns nil for the error of an Add that was refused because there is
// a member of that name.
func ignoreOther(err error) error {
	if err != nil && strings.Contains(err.Error(), "is a member already") {
		return nil
	}
	return fmt.Errorf("Add of a member that is there: %w", err)
}

func TestTheLeaderItselfCanBeRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	c.put("a", "1")
	old := c.leader()
	if err := old.host.Remove(within(t, patience), old.host.name); err != nil {
		t.Fatal(err)
	}
	<-old.ctx.Done()

	next := c.leader(c.others(old.host)...)
	if _, err := next.host.Put(within(t, patience), next.term, "a", []byte("2"), AnyRevision); err != nil {
		t.Error(err)
	}
	if got := next.host.Members(); len(got) != 2 {
		t.Errorf("%s", names(got))
	}
	if old.host.Status().Member {
		t.Error("it still calls itself a member")
	}

	// The removed host does not disturb the others.
	time.Sleep(4 * silenceTimeout)
	if next.ctx.Err() != nil {
		t.Error(context.Cause(next.ctx))
	}

	wants(t, next.host.Remove(within(t, patience), "nobody"), nil)
}

func TestAnAddThatFailsLeavesTheMembersAsTheyWere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	l := c.leader()

	err := l.host.Add(within(t, 2*time.Second), "two/0000000000000000", freeAddress(t))
	if err == nil || !strings.Contains(err.Error(), "cannot be added") {
		t.Errorf("nobody there: %v", err)
	}

	two := c.host("two").start()
	err = l.host.Add(within(t, 2*time.Second), "two/0000000000000000", two.address)
	wants(t, err, ErrOtherIncarnation)

	// The new member answers once and is cut off then. The leader alone keeps its
	// majority.
	c.link("one", two.address).isCut.Store(false)
	asked := make(chan error, 1)
	c.link("two", l.host.address).isCut.Store(true)
	go func() { asked <- l.host.Add(within(t, 3*time.Second), two.ID(), two.address) }()
	soon(t, "the first step", func() bool { return len(l.host.Members()) == 2 || len(asked) > 0 })
	c.cut(two, true)
	if err := <-asked; err == nil {
		t.Log("it was faster")
	} else if got := names(l.host.Members()); got != "one" {
		t.Errorf("%v, and the members are %s", err, got)
	}

	c.cut(two, false)
	c.put("a", "1")
	if err := c.leader().host.Add(within(t, patience), two.ID(), two.address); err != nil {
		t.Error(err)
	}
	two.has("a", "1")

	for _, wrong := range []string{"", "two", "two/", "a b/1", "two/@"} {
		if err := c.leader().host.Add(within(t, patience), wrong, two.address); err == nil {
			t.Errorf("the identity %q was taken", wrong)
		}
	}
}

func TestFiveMembersBearTheLossOfTwoAndGrowFromOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"a": []byte("0")}, "one", "two", "three", "four", "five")
	if got := names(c.leader().host.Members()); got != "five four one three two" {
		t.Fatal(got)
	}

	c.put("a", "1")
	first := c.leader().host
	c.others(first)[0].halt()
	first.halt()
	c.put("a", "2")

	third := c.leader()
	third.host.halt()
	left := c.others(nil)
	soon(t, "the loss of the leader", func() bool {
		_, known := left[0].leader()
		return !known
	})
	if _, err := left[0].Leader(within(t, 4*silenceTimeout)); !errors.Is(err, ErrNoMajority) {
		t.Errorf("two of five lead: %v", err)
	}

	first.start()
	c.put("a", "3")
	for _, h := range c.others(nil) {
		h.has("a", "3")
	}
}

func TestAMemberMovesToAnotherAddress(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	l := c.leader()
	moved := c.others(l.host)[0]
	moved.halt()
	moved.address = freeAddress(t)
	moved.start()
	if err := c.leader().host.Replace(within(t, patience), moved.ID(), moved.address); err != nil {
		t.Fatal(err)
	}
	c.put("a", "1")
	moved.has("a", "1")
	if got := names(c.leader().host.Members()); got != "one three two" {
		t.Error(got)
	}
}

func TestALeaderWhoseDiskStallsIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	var stalled atomic.Pointer[host]
	end := make(chan struct{})
	for _, h := range c.hosts {
		h.halt()
		h.prepare = func(m *Member) {
			m.store.before = func() error {
				if stalled.Load() == h {
					<-end
				}
				return nil
			}
		}
	}
	for _, h := range c.hosts {
		h.start()
	}
	old := c.leader()
	stalled.Store(old.host)
	_, err := old.host.Put(within(t, time.Second), old.term, "a", []byte("of the one that hangs"), AnyRevision)
	wants(t, err, ErrUnknownOutcome)

	next := c.leader(c.others(old.host)...)
	if old.ctx.Err() == nil || !strings.Contains(context.Cause(old.ctx).Error(), "disk") {
		t.Errorf("its context: %v", context.Cause(old.ctx))
	}
	if _, err := next.host.Put(within(t, patience), next.term, "a", []byte("2"), AnyRevision); err != nil {
		t.Fatal(err)
	}
	stalled.Store(nil)
	close(end)
	old.host.has("a", "2")
}

func TestAMemberWhoseDiskFailsStopsAndHarmsNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	var full atomic.Pointer[host]
	for _, h := range c.hosts {
		h.halt()
		h.prepare = func(m *Member) {
			m.store.before = func() error {
				if full.Load() == h {
					return syscall.ENOSPC
				}
				return nil
			}
		}
	}
	for _, h := range c.hosts {
		h.start()
	}

	c.put("a", "1")
	for _, which := range []string{"leader", "follower"} {
		l := c.leader()
		h := l.host
		if which == "follower" {
			h = c.others(l.host)[0]
		}

		full.Store(h)
		c.put("a", which)
		select {
		case <-h.Done():
		case <-time.After(patience):
			t.Fatalf("the %s did not stop", which)
		}
		if err := h.Err(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), filepath.Join(h.dir, fileName)) {
			t.Errorf("%s: %v", which, err)
		}

		_, err := h.Put(within(t, time.Second), l.term, "a", nil, AnyRevision)
		if err == nil {
			t.Errorf("the %s wrote", which)
		}

		// Started again it fails as well, with the reason.
		cfg := h.config()
		if m, err := start(cfg, h.prepare); err == nil {
			soon(t, "its end", func() bool { return m.Err() != nil })
			<-m.Done()
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		} else {
			cfg.Listener.Close()
		}

		full.Store(nil)
		h.start()
		h.has("a", which)
	}
}

func TestADamagedFileIsFoundBeforeTheMemberTakesPart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	for i := range 20 {
		c.put(fmt.Sprint("n/", i), strings.Repeat("document ", 1000))
	}
	ill := c.others(c.leader().host)[0]
	ill.has("n/19", strings.Repeat("document ", 1000))
	ill.halt()
	file := filepath.Join(ill.dir, fileName)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	damage := map[string]func() []byte{
		"a flipped bit in a document": func() []byte {
			torn := append([]byte(nil), whole...)
			torn[strings.Index(string(torn), "ZG9jdW1lbnQg")] ^= 1
			return torn
		},
		"cut short":        func() []byte { return whole[:len(whole)/2] },
		"cut to two pages": func() []byte { return whole[:2*os.Getpagesize()] },
		"not a database":   func() []byte { return []byte(strings.Repeat("x", len(whole))) },
		"zeros after the head": func() []byte {
			torn := make([]byte, len(whole))
			copy(torn, whole[:2*os.Getpagesize()])
			return torn
		},
	}

	for what, torn := range damage {
		if err := os.WriteFile(file, torn(), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := ill.config()
		m, err := Start(cfg)
		if err == nil {
			t.Errorf("%s: it started", what)
			m.Stop(within(t, patience))
			continue
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "remove this host's member") {
			t.Errorf("%s: %v", what, err)
		}
	}

	// The others have lost nothing, and the member comes back as a new incarnation.
	c.put("after", "1")
	if err := os.RemoveAll(ill.dir); err != nil {
		t.Fatal(err)
	}
	ill.start()
	if err := c.leader().host.Replace(within(t, patience), ill.ID(), ill.address); err != nil {
		t.Fatal(err)
	}
	ill.has("n/7", strings.Repeat("document ", 1000))
}

func TestAnEntryOfANewerVersionStopsTheMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, map[string][]byte{"a": []byte("1")}, "one")
	l := c.leader()
	newer := command{Version: commandVersion + 1, Term: l.term, Changes: []Change{{Name: "a", Data: []byte("2"), Revision: AnyRevision}}}
	if _, err := l.host.propose(within(t, patience), newer); err == nil {
		t.Error("it was carried out")
	}
	<-l.host.Done()
	if err := l.host.Err(); err == nil || !strings.Contains(err.Error(), "start the version that the other hosts run") {
		t.Error(err)
	}
}

func TestTheFileIsThisUsersAloneAndOneProcessHasIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one")
	h := c.leader().host
	for path, want := range map[string]os.FileMode{h.dir: 0o700, filepath.Join(h.dir, fileName): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, want)
		}
	}

	if _, err := openStore(h.dir, "one"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Error(err)
	}

	h.halt()
	if err := Bootstrap(h.dir, "one", h.address, nil); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(err)
	}

	cfg := h.config()
	cfg.Name = "two"
	if _, err := Start(cfg); err == nil || !strings.Contains(err.Error(), "belongs to the member one") {
		t.Error(err)
	}

	if err := os.Chmod(filepath.Dir(h.dir), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(h.config()); err == nil || !strings.Contains(err.Error(), "other users may write") {
		t.Error(err)
	}
	os.Chmod(filepath.Dir(h.dir), 0o755)
}

// leaveBehind halts a host, and writes so much that the host needs a snapshot when it is back.
// It returns the host, and the text of the document n.
func (c *cluster) leaveBehind() (away *host, text string) {
	c.t.Helper()
	away = c.others(c.leader().host)[0]
	away.halt()
	text = strings.Repeat("0123456789", 20_000)
	for range 25 { // 5 MB, of one document
		c.put("n", text)
	}
	l := c.leader()
	soon(c.t, "a shorter log", func() bool {
		first, _ := l.host.store.FirstIndex()
		return first > firstIndex+1
	})
	return away, text
}

func TestTheLogStaysSmallAndOneThatWasAwayCatchesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	away, text := c.leaveBehind()
	away.start()
	away.has("n", text)
	for _, h := range c.hosts {
		info, err := os.Stat(filepath.Join(h.dir, fileName))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d KB", h.name, info.Size()>>10)
		if info.Size() > 32<<20 {
			t.Errorf("the file of %s has %d MB", h.name, info.Size()>>20)
		}
	}
	// The host's log has a gap before the snapshot, which is not taken for damage.
	away.halt()
	away.start()
	c.put("n", "2")
	away.has("n", "2")
}

// A member stops after it has stored the first entries after a snapshot, and before it has
// acknowledged them. The leader sends them again, from the end of the snapshot on.
func TestOneThatStopsBehindASnapshotCatchesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil, "one", "two", "three")
	away, _ := c.leaveBehind()
	c.put("n", "2") // an entry after the snapshot

	// sent returns the index of a snapshot that the member was sent; 0: it has only the one
	// that the stack began with, or none.
	sent := func(m *Member) uint64 {
		if found, _ := m.store.List(); len(found) > 0 && found[0].Index > firstIndex {
			return found[0].Index
		}
		return 0
	}
	away.prepare = func(m *Member) {
		m.store.before = func() error {
			if sent(m) > 0 {
				m.streams.setCut(true) // it cannot acknowledge what it writes from now on
			}
			return nil
		}
	}

	away.start()
	soon(t, "an entry behind the snapshot", func() bool {
		last, _ := away.store.LastIndex()
		snapshot := sent(away.Member)
		return snapshot > 0 && last > snapshot
	})

	away.halt()
	away.prepare = nil
	away.start()
	c.put("n", "3")
	away.has("n", "3")
}

// entries returns log entries with commands of one term.
func entries(first, last, term uint64) (all []*raft.Log) {
	for index := first; index <= last; index++ {
		all = append(all, &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: []byte("data")})
	}
	return all
}

// This tests what raft reads at the end of a snapshot that came from another member.
func TestASnapshotReplacesWhatTheLogHadInItsPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		log         []*raft.Log
		index, term uint64
		first, last uint64 // the first and last index of the log afterwards
		at          uint64 // the term of the entry that GetLog returns for index; 0: none
	}{
		{"one's own", entries(1, 300, 2), 290, 2, 1, 300, 2},
		{"behind the log", entries(1, 6, 2), 23, 2, 0, 0, 2},
		{"with another entry at its end", entries(1, 300, 2), 290, 3, 291, 300, 3},
		{"at index 1, before which there is nothing to ask for", nil, 1, 1, 0, 0, 0},
	} {
		s, err := openStore(filepath.Join(t.TempDir(), "one"), "one")
		if err != nil {
			t.Fatal(err)
		}
		s.StoreLogs(c.log)
		k, _ := s.Create(1, c.index, c.term, raft.Configuration{}, 1, nil)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}

		var at raft.Log
		err = s.GetLog(c.index, &at)
		first, _ := s.FirstIndex()
		last, _ := s.LastIndex()
		if first != c.first || last != c.last || at.Term != c.at || (err != nil) != (c.at == 0) {
			t.Errorf("a snapshot %s: the log has %d to %d, at its end term %d, %v", c.name, first, last, at.Term, err)
		}
		if c.at != 0 && at.Index != c.index {
			t.Errorf("a snapshot %s: the entry at %d has the index %d", c.name, c.index, at.Index)
		}

		// An older snapshot, of the member's own, is finished later. It replaces nothing.
		older, _ := s.Create(1, c.index-1, c.term, raft.Configuration{}, 1, nil)
		if err := older.Close(); err != nil {
			t.Fatal(err)
		}
		if found, err := s.List(); err != nil || len(found) != 1 || found[0].Index != c.index {
			t.Errorf("a snapshot %s: after an older one there are %v, %v", c.name, found, err)
		}

		if err := s.GetLog(c.index-1, &raft.Log{}); (err == nil) != (c.first == 1) {
			t.Errorf("a snapshot %s: the entry before its end: %v", c.name, err)
		}

		if err := errors.Join(s.verify(), s.close()); err != nil {
			t.Error(err)
		}
	}
}

// After a snapshot of its own, raft deletes the entries up to its end, one of which it may just
// be sending to another member. It must find that entry unchanged, or not at all.
func TestTheEndOfASnapshotIsTheEntryThatItWas(t *testing.T) {
	t.Parallel()
	s, err := openStore(filepath.Join(t.TempDir(), "one"), "one")
	if err != nil {
		t.Fatal(err)
	}
	s.StoreLogs(entries(3, 60, 2))
	k, _ := s.Create(1, 40, 2, raft.Configuration{}, 1, nil)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	s.DeleteRange(3, 40)
	for index, there := range map[uint64]bool{3: false, 39: false, 40: true, 41: true, 60: true} {
		var entry raft.Log
		err := s.GetLog(index, &entry)
		if (err == nil) != there || there && (entry.Type != raft.LogCommand || string(entry.Data) != "data") {
			t.Errorf("entry %d is %+v, %v", index, entry, err)
		}
	}
	if err := errors.Join(s.verify(), s.close()); err != nil {
		t.Error(err)
	}
}
