package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A stack of several hosts is taken down also while one of them is lost. What runs there
// goes on, and whoever took the stack down hears of it.

// UnreachedError says that a stack was taken down but for the nodes of hosts that could not
// be reached.
type UnreachedError struct{ Hosts []string }

func (e *UnreachedError) Error() string {
	return fmt.Sprintf("not reached, so that their nodes may run on: %s", join(e.Hosts))
}

// unreached are the hosts that were lost when their nodes were to be stopped. It is safe for
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

// list returns their names, sorted.
func (u *unreached) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.hosts))
}

const (
	// lookEvery is the pause between two looks whether a host is there.
	lookEvery = 250 * time.Millisecond
	// presenceLimit is how long a host may take to answer one.
	presenceLimit = 2 * time.Second
	// lostAfter is after how many looks in a row that do not find it a host is lost.
	lostAfter = 4
)

// errUnreached is the cause of the end of what waits for a host that is lost.
var errUnreached = errors.New("its host is lost")

// whileReached returns a context that ends when a host of several is lost, with the cause
// errUnreached. The caller calls end.
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

// awaitLost looks after a host until ctx ends, or returns true when it is lost.
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
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return false
		}
	}
}

// leave has a host be one that was not reached.
func (s *Supervisor) leave(host home) {
	if s.unreached.add(host.name) {
		s.log.Warn("a host is lost, and what runs there is not stopped", "host", host.name)
	}
}
