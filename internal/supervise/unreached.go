package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
)

// A stack of several hosts can be taken down while a host is lost. The nodes of that host go on
// running, and the operator is told.

// UnreachedError is the error of taking a stack down if some hosts could not be reached. The
// nodes of all other hosts have ended.
type UnreachedError struct{ Hosts []string }

func (e *UnreachedError) Error() string {
	return fmt.Sprintf("not reached, so that their nodes may run on: %s", strings.Join(e.Hosts, ", "))
}

// unreached has the hosts that were lost when their nodes were to be stopped. It is safe for
// concurrent use.
type unreached struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (u *unreached) add(host string) (first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hosts == nil {
		u.hosts = map[string]bool{}
	}
	first = !u.hosts[host]
	u.hosts[host] = true
	return first
}

func (u *unreached) has(host string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.hosts[host]
}

// list returns the names of the hosts, sorted.
func (u *unreached) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.hosts))
}

const (
	// lookEvery is the pause between two looks whether a host is reachable.
	lookEvery = 250 * time.Millisecond
	// presenceLimit is how long a host may take to respond to a look.
	presenceLimit = 2 * time.Second
	// lostAfter is how many failed looks in a row make a host count as lost.
	lostAfter = 4
)

// errUnreached is the cause for which a context of whileReached ends when the host is lost.
var errUnreached = errors.New("its host is lost")

// whileReached returns a context that ends, with the cause errUnreached, when a host of several
// is lost. The caller has to call end.
func (s *Supervisor) whileReached(ctx context.Context, host home) (_ context.Context, end func()) {
	if !s.hosts.several {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		if s.awaitLost(ctx, host) {
			cancel(errUnreached)
		}
	})
	return ctx, func() { cancel(nil); looking.Wait() }
}

// awaitLost watches a host. It returns true when the host is lost, and false when ctx ends.
func (s *Supervisor) awaitLost(ctx context.Context, host home) bool {
	missed := 0
	if s.unreached.has(host.name) {
		missed = lostAfter - 1
	}
	for {
		look, cancel := context.WithTimeout(ctx, presenceLimit)
		there := host.Present(look)
		cancel()
		if missed++; there {
			missed = 0
		}
		if ctx.Err() == nil && missed >= lostAfter {
			return true
		}
		if !clock.Sleep(ctx, lookEvery) {
			return false
		}
	}
}

// markUnreached marks a host as not reached.
func (s *Supervisor) markUnreached(host home) {
	if s.unreached.add(host.name) {
		s.log.Warn("a host is lost, and what runs there is not stopped", "host", host.name)
	}
}
