package host

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// When the stack is taken down, all hosts end, and no other host takes over in between. A host
// that is opened later leads again.
func TestAStackThatIsTakenDownEndsOnAllHosts(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	l.join(one, "two", 2)
	l.join(one, "three", 3)
	var leader *labHost
	var with *Leadership
	l.eventually("the leader knows of all hosts", func() bool {
		leader, with = l.leader()
		return len(with.Hosts) == 3
	})

	l.must(with.End(t.Context(), false))
	for name, h := range l.hosts {
		select {
		case <-h.Down():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not hear that the stack is down", name)
		}
	}

	terms := map[string]int{}
	for name, h := range l.hosts {
		terms[name] = h.terms
	}

	leader.Close()
	for name, h := range l.hosts {
		if h != leader {
			h.Close()
			if h.terms != terms[name] {
				t.Errorf("%s led a stack that was taken down", name)
			}
		}
	}

	for name, h := range l.hosts {
		l.hosts[name] = l.open(name, h.state)
	}
	l.leader()
	for name, h := range l.hosts {
		l.eventually(name+" has heard that the stack is up again", func() bool {
			_, down := h.member.GetStale(downDocument)
			return !down && h.member.Settle(t.Context()) == nil
		})
	}
	for name, h := range l.hosts {
		select {
		case <-h.Down():
			t.Errorf("%s ends because of a down that is over", name)
		default:
		}
	}
}

// A stack that was purged never comes up again: a host that was killed during the purge ends
// when it is opened again.
func TestAStackThatIsPurgedEndsForGood(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	l.join(one, "two", 2)
	l.join(one, "three", 3)
	var with *Leadership
	l.eventually("the leader knows of all hosts", func() bool {
		_, with = l.leader()
		return len(with.Hosts) == 3
	})

	l.must(with.End(t.Context(), true))
	ends := func() {
		t.Helper()
		for name, h := range l.hosts {
			select {
			case <-h.Down():
			case <-time.After(10 * time.Second):
				t.Fatalf("%s does not hear that the stack is no more", name)
			}
			if !h.Purged() {
				t.Errorf("%s is to stay a host", name)
			}
		}
	}

	ends()
	for name, h := range l.hosts {
		h.Close()
		l.hosts[name] = l.open(name, h.state)
	}
	ends()
}

func TestAHostHearsThatItWasRemovedWhileItWasAway(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	l.join(one, "two", 2)
	three := l.join(one, "three", 3)
	three.Close()
	delete(l.hosts, "three")
	l.remove("three")
	three = l.open("three", three.state)
	delete(l.hosts, "three")
	select {
	case <-three.Removed():
	case <-time.After(30 * time.Second):
		t.Fatal("three does not hear of it")
	}
}

func TestTheLastMajorityIsNotRemoved(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two, three := l.join(one, "two", 2), l.join(one, "three", 3)
	l.eventually("one leads three hosts, or another does", func() bool {
		_, with := l.leader()
		return len(with.Hosts) == 3
	})
	three.Close()
	delete(l.hosts, "three")
	l.eventually("the other's removal is refused with the reason", func() bool {
		leader, with := l.leader()
		other := two
		if with.Here == "two" {
			other = one
		}
		err := leader.Remove(t.Context(), other.Self().Name)
		return err != nil && strings.Contains(err.Error(), "no majority would be left") && strings.Contains(err.Error(), "three")
	})
}

func TestOneProcessIsAHost(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if Claimed(state) {
		t.Error("a directory that is not there is claimed")
	}
	release, err := Claim(state)
	if err != nil {
		t.Fatal(err)
	}
	claimed := new(ClaimedError)
	if _, err := Claim(state); !errors.As(err, &claimed) || claimed.PID == 0 || !Claimed(state) {
		t.Errorf("a second claim: %v", err)
	}
	release()
	if Claimed(state) {
		t.Error("it is claimed although it was given back")
	}
}
