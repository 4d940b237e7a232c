package host

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/identity"
)

// A host with a pass and an empty state directory finds out by itself what to do. If any other
// host is up, it joins that host's stack, as the replacement of its own former self. Only if
// every other host reports that it is waiting too, with an empty state directory, the first
// host of the pass begins the stack. So a host that has lost its disk and is cut off from the
// others does not begin a second stack.

const (
	// seatEvery is how often the other hosts are asked, and askedLimit how long an answer may
	// take.
	seatEvery  = 500 * time.Millisecond
	askedLimit = 2 * time.Second
	// joinAgain is the time between two attempts to join: hosts limit their number
	// (identity.Joins).
	joinAgain = 2 * time.Second
	// tellEvery is how often the user is told what the host waits for.
	tellEvery = 10 * time.Second
)

// TakeSeat makes a state directory that of the host that a pass is for. It waits for the other
// hosts until ctx ends, and calls tell with what it waits for. The caller makes sure that no
// other process works on the directory.
func TakeSeat(ctx context.Context, state string, p identity.Pass, tell func(text string)) (Self, error) {
	seat, is := p.Seat()
	if !is {
		return Self{}, fmt.Errorf("the pass of host %s does not name it among the hosts of the stack", p.Token.Host)
	}
	if err := makeStateDir(state); err != nil {
		return Self{}, err
	}

	failed := ""
	for told := (time.Time{}); ; {
		met, err := waitFor(ctx, p, seat, func(m meeting) {
			if time.Since(told) > tellEvery {
				told = time.Now()
				tell(m.text(p) + failed)
			}
		})
		switch {
		case err != nil:
			return Self{}, err
		case len(met.up) == 0:
			return begin(state, p, seat)
		}

		self, err := Join(ctx, state, p.Token.Encode())
		if err == nil || ctx.Err() != nil {
			return self, err
		}

		failed = fmt.Sprintf(". The last attempt to join failed: %v", err)
		clock.Sleep(ctx, joinAgain)
	}
}

// begin founds the stack with this host as its first.
func begin(state string, p identity.Pass, seat identity.Seat) (Self, error) {
	self := Self{Stack: p.Token.Stack, Name: seat.Name, Address: seat.Address}
	var planned []Planned
	for _, s := range p.Seats {
		planned = append(planned, Planned{Name: s.Name, Address: s.Address.Addr()})
	}
	return self, initFirst(state, self, &p, time.Now(), planned)
}

// meeting is what the other hosts have answered: the names of those that are up, that wait as
// well, and that gave no answer.
type meeting struct{ up, waiting, silent []string }

// text returns what the host waits for, for the user.
func (m meeting) text(p identity.Pass) string {
	switch {
	case len(m.up) > 0:
		return "joining " + strings.Join(m.up, ", ")
	case len(m.silent) > 0:
		return "this host has no state yet. It joins the stack when another host is up, and the stack begins when all of them are there: no answer of " + strings.Join(m.silent, ", ")
	}
	return fmt.Sprintf("all hosts are there: %s begins the stack", p.Seats[0].Name)
}

// waitFor asks the other hosts, and answers them meanwhile, until one of them is up or this
// host is to begin the stack. In the latter case the meeting that it returns has none in up.
// It calls look with each meeting.
func waitFor(ctx context.Context, p identity.Pass, seat identity.Seat, look func(meeting)) (meeting, error) {
	settings, err := p.Waiting(time.Now(), rand.Reader)
	if err != nil {
		return meeting{}, err
	}
	l, err := tls.Listen("tcp", seat.Address.String(), settings)
	if err != nil {
		return meeting{}, fmt.Errorf("host %s cannot listen where the other hosts reach it: %w", seat.Name, err)
	}

	var answering sync.WaitGroup
	answering.Go(func() { answerWaiting(l) })
	defer answering.Wait()
	defer l.Close()

	for {
		met := meet(ctx, p, seat)
		if ctx.Err() != nil {
			return met, errors.New("interrupted while it waited for the other hosts of the stack")
		}
		look(met)
		if len(met.up) > 0 || len(met.silent) == 0 && seat.Name == p.Seats[0].Name {
			return met, nil
		}
		clock.Sleep(ctx, seatEvery)
	}
}

// answerWaiting does TLS handshakes until the listener is closed. The handshake is the whole
// answer: its certificate shows that this host is waiting.
func answerWaiting(l net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // perhaps out of file descriptors
			continue
		}
		open.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(askedLimit))
			_ = conn.(*tls.Conn).Handshake() // after a failure the other host asks again
		})
	}
}

// meet asks all other hosts at once.
func meet(ctx context.Context, p identity.Pass, seat identity.Seat) (m meeting) {
	ctx, cancel := context.WithTimeout(ctx, askedLimit)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup

	for _, other := range p.Seats {
		if other.Name == seat.Name {
			continue
		}
		asking.Go(func() {
			d := tls.Dialer{Config: p.Asking(other.Name, time.Now)}
			conn, err := d.DialContext(ctx, "tcp", other.Address.String())
			list := &m.up
			switch {
			case err != nil:
				list = &m.silent
			case identity.IsWaiting(conn.(*tls.Conn).ConnectionState()):
				list = &m.waiting
			}
			if err == nil {
				_ = conn.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			*list = append(*list, other.Name)
			slices.Sort(*list)
		})
	}

	asking.Wait()
	return m
}
