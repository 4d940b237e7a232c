package host

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/identity"
)

// seated is a lab whose hosts have passes. It has the pass and the state directory of each.
type seated struct {
	*lab
	passes []identity.Pass
	states []string
}

func newSeated(t *testing.T) *seated {
	t.Helper()
	s := &seated{lab: newLab(t)}
	var seats []identity.Seat
	for i, name := range []string{"one", "two", "three"} {
		seats = append(seats, identity.Seat{Name: name, Address: s.address(i + 1)})
		s.states = append(s.states, filepath.Join(t.TempDir(), name))
	}
	var err error
	s.passes, err = identity.NewPasses("shop", seats, time.Now(), rand.Reader)
	s.must(err)
	return s
}

// sit starts TakeSeat for a host, and returns a channel for its error. See run for the host
// itself.
func (s *seated) sit(ctx context.Context, i int) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := TakeSeat(ctx, s.states[i], s.passes[i], func(text string) { s.t.Log(s.passes[i].Token.Host, text) })
		done <- err
	}()
	return done
}

func (s *seated) run(i int) *labHost { return s.open(s.passes[i].Token.Host, s.states[i]) }

// voters returns how many hosts have a vote, as this host knows it.
func (h *labHost) voters() (n int) {
	for _, p := range h.member.Members() {
		if p.Voter {
			n++
		}
	}
	return n
}

func (s *seated) begun(i int) bool {
	_, err := ReadSelf(s.states[i])
	return err == nil
}

func TestHostsWithPassesBeginTheirStackTogether(t *testing.T) {
	s := newSeated(t)
	waiting, stop := context.WithCancel(t.Context())
	first := s.sit(waiting, 0)
	second := s.sit(t.Context(), 1)
	select {
	case err := <-first:
		t.Fatalf("the first host does not wait for the third: %v", err)
	case <-time.After(4 * seatEvery): // a host that does not wait would have begun by now
	}
	stop()
	if err := <-first; err == nil || s.begun(0) {
		t.Fatalf("a host that was interrupted: %v, begun %v", err, s.begun(0))
	}

	first, third := s.sit(t.Context(), 0), s.sit(t.Context(), 2)
	s.must(<-first)
	if s.begun(1) || s.begun(2) {
		t.Error("another host than the first began the stack")
	}
	s.run(0)
	s.must(<-second)
	s.must(<-third)
	s.run(1)
	three := s.run(2)
	s.eventually("all have a vote", func() bool { return three.voters() == 3 })

	// The host that began the stack loses its disk. It joins the others as a new member.
	was := three.Members()[0]
	s.hosts["one"].Close()
	delete(s.hosts, "one")
	s.must(os.RemoveAll(s.states[0]))
	s.eventually("another host leads", func() bool { name := three.Leader(); return name != "" && name != "one" })
	s.must(<-s.sit(t.Context(), 0))
	one := s.run(0)
	s.eventually("it has a vote again", func() bool {
		now := three.Members()[0]
		return now.Name == "one" && now.ID != was.ID && one.voters() == 3 && three.voters() == 3
	})
}

func TestAHostThatLostItsDiskBeginsNothingAlone(t *testing.T) {
	s := newSeated(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*seatEvery)
	defer cancel()
	if err := <-s.sit(ctx, 0); err == nil || s.begun(0) {
		t.Errorf("with nobody there: %v, begun %v", err, s.begun(0))
	}
	if _, err := ReadSelf(s.states[0]); !errors.Is(err, ErrNotJoined) {
		t.Errorf("it is a host: %v", err)
	}
}
