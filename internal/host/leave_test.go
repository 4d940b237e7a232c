package host

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"holdfast/internal/agent"
	"holdfast/internal/agree"
	"holdfast/internal/identity"
)

// votes returns the names of the agreement's members, as a host knows them.
func (h *labHost) votes() (names []string) {
	for _, p := range h.member.Members() {
		names = append(names, p.Name)
	}
	return names
}

// After one of two hosts was removed, the leader writes without its vote.
func TestOneOfTwoHostsIsRemoved(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two := l.join(one, "two", 2)
	l.remove("two")
	delete(l.hosts, "two")
	_, with := l.leader()
	l.must(with.Share(t.Context(), "running.json", []byte("alone")))
	if got := one.votes(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("votes have %v", got)
	}
	l.eventually("two hears of it", func() bool {
		select {
		case <-two.Removed():
			return true
		default:
			return false
		}
	})
}

// A removal is completed although its client has gone.
func TestARemovalThatIsInterruptedLeavesNoVote(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	l.join(one, "two", 2)
	l.join(one, "three", 3).Close()
	delete(l.hosts, "three")
	leader, _ := l.leader()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- leader.Remove(ctx, "three") }()
	l.eventually("three is no host of the stack any more", func() bool {
		_, is := leader.addressOf("three")
		return !is
	})
	cancel()
	<-asked
	if got := leader.votes(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("votes have %v", got)
	}
}

// If a leader ends in the middle of a removal, the next leader completes it.
func TestALeaderTakesVotesThatNoHostHas(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	l.join(one, "two", 2)
	l.join(one, "three", 3).Close()
	delete(l.hosts, "three")
	leader, _ := l.leader()
	l.must(change(t.Context(), leader.Host, leader.leads(), rosterDocument, func(r *roster) error {
		*r = r.without("three")
		return nil
	}))
	l.eventually("three is listed as one that has a vote", func() bool {
		return slices.ContainsFunc(leader.View(t.Context()).Hosts, func(s HostView) bool { return s.Name == "three" && s.Votes })
	})
	leader.member.Resign(errors.New("a test wants it"))
	l.eventually("three has no vote", func() bool { return !slices.Contains(one.votes(), "three") })
}

// A stranger cannot make a host leave its stack: a refusal counts only if its sender has shown
// a host's certificate.
func TestAStrangerCannotRefuseAHost(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()

	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	l.must(err)
	defer stranger.Close()

	go func() {
		for {
			conn, err := stranger.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_, _ = conn.Write([]byte{0x15, 3, 3, 0, 2, 2, 42}) // fatal: bad certificate
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()

	one.Host.mu.Lock() // not the mutex of labHost
	one.roster = one.roster.with(Member{Name: "two", ID: "x", Address: netip.MustParseAddrPort(stranger.Addr().String())})
	one.Host.mu.Unlock()
	if one.refusedBy("two") {
		t.Error("a stranger has refused it")
	}
}

// A removed host cannot join again with its old key and token, and so cannot displace its
// replacement.
func TestARemovedHostDoesNotPutOutItsReplacement(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	invite := func() identity.Token {
		invited, err := one.Invite(t.Context(), "two", l.address(2).Addr(), time.Minute)
		l.must(err)
		token, err := identity.ParseToken(invited.Token)
		l.must(err)
		return token
	}
	key, err := identity.NewKey()
	l.must(err)
	first := invite()
	joined, err := identity.Join(t.Context(), first, "", key, time.Now)
	l.must(err)
	gone := joined.Credentials.Peer().ID

	// The answer to a join may be lost. Then the host asks again, and what it reported about
	// itself stays.
	l.must(change(t.Context(), one.Host, one.leads(), rosterDocument, func(r *roster) error {
		m := r.Hosts["two"]
		m.State = "/told"
		r.Hosts["two"] = m
		return nil
	}))
	_, err = identity.Join(t.Context(), first, "", key, time.Now)
	l.must(err)
	if m := one.rosterNow().Hosts["two"]; m.State != "/told" || m.ID != gone {
		t.Errorf("after it has asked again: %+v", m)
	}

	l.must(one.Remove(t.Context(), "two"))
	other, err := identity.NewKey()
	l.must(err)
	replacement, err := identity.Join(t.Context(), invite(), "", other, time.Now)
	l.must(err)
	if _, err := identity.Join(t.Context(), first, "", key, time.Now); err == nil {
		t.Error("the removed host has joined by its old token")
	}
	if _, err := one.enlist(t.Context(), one.leads(), Member{Name: "two", ID: gone}); identity.ReasonOf(err) != identity.Removed {
		t.Errorf("a host that was removed is enlisted: %v", err)
	}
	now := one.rosterNow()
	if id := replacement.Credentials.Peer().ID; now.Hosts["two"].ID != id || slices.Contains(now.Gone, id) {
		t.Errorf("the replacement is not the host: %+v", now)
	}
}

// rosterNow returns the current roster, read from the agreement.
func (h *labHost) rosterNow() (r roster) {
	_, _ = h.load(h.life, rosterDocument, &r)
	return r
}

// A host that starts while no host leads keeps its files, and does not roll them back to an
// older state of its log.
func TestAHostThatBeginsAloneKeepsWhatItHas(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two := l.join(one, "two", 2)

	var with *Leadership
	var leader *labHost
	l.eventually("the leader knows of both hosts", func() bool {
		leader, with = l.leader()
		return len(with.Hosts) == 2 && with.Share(t.Context(), "stack.json", []byte("new")) == nil &&
			with.Share(t.Context(), "running.json", []byte("new")) == nil
	})

	l.must(leader.store("stack.json", agree.Event{Document: agree.Document{Data: []byte("new")}}))
	l.must(leader.store("running.json", agree.Event{Document: agree.Document{Data: []byte("new")}}))

	l.eventually("both have it", func() bool {
		return one.has("stack.json", "new") && one.has("running.json", "new") &&
			two.has("stack.json", "new") && two.has("running.json", "new")
	})

	one.Close()
	two.Close()
	for name, h := range l.hosts {
		alone := l.open(name, h.state)
		if !alone.has("stack.json", "new") || !alone.has("running.json", "new") {
			t.Errorf("%s has rolled back what it had", name)
		}
		if at, known := alone.addressOf("two"); !known || at != two.self.Address {
			t.Errorf("%s does not know where two is", name)
		}
		alone.Close()
	}
}

// After a restart, a host carries out nothing for a leader of an earlier term.
func TestAHostThatIsRestartedObeysNoEarlierTerm(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	term := one.leads()
	one.Close()
	again := l.open("one", one.state)
	if _, _, err := again.Host.terms.Begin(t.Context(), term-1); !errors.Is(err, agent.ErrDeposed) {
		t.Errorf("a call of an earlier term: %v", err)
	}
}

// 'host replace' invites the new machine right after the old one was removed.
func TestAHostThatWasRemovedIsInvitedAtOnce(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	l.join(one, "three", 3)
	l.join(one, "two", 2).Close()
	delete(l.hosts, "two")
	for range 3 {
		leader, _ := l.leader()
		if err := leader.Remove(t.Context(), "two"); err != nil {
			continue // the leader hands over, or the former try was completed
		}
		if _, err := leader.Invite(t.Context(), "two", l.address(2).Addr(), time.Minute); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("two is not removed")
}
