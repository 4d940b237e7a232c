package test

import (
	"sync"
	"testing"
)

// Most tests wait for servers for most of their time, so they run beside each other. A machine of
// two cores has processor time for three stacks with the race detector, or for one stack of several
// hosts and one other: a host that gets no processor time for a second leads no more.
const (
	oneStack     = 1
	severalHosts = 2
	allStacks    = 3
)

// beside runs a test beside others that need no more than allStacks together. share is oneStack, or
// severalHosts for what needs more of the machine. A test that waits for its share counts as running,
// so the makefile's -parallel is larger than the number of tests with severalHosts.
func beside(t *testing.T, share int) {
	t.Helper()
	t.Parallel()
	processors.take(share)
	t.Cleanup(func() { processors.give(share) }) // after the test has taken its stack down
}

var processors = newShares(allStacks)

// shares are the parts of the machine that are free. One test at a time has severalHosts, and the next
// of its kind is next: all of them together take longest.
type shares struct {
	changed *sync.Cond
	free    int
	large   int  // tests that wait for severalHosts
	taken   bool // by a test with severalHosts
}

func newShares(n int) *shares { return &shares{changed: sync.NewCond(new(sync.Mutex)), free: n} }

func (s *shares) take(n int) {
	s.changed.L.Lock()
	defer s.changed.L.Unlock()
	if n == severalHosts {
		s.large++
		for s.taken || s.free < n {
			s.changed.Wait()
		}
		s.large--
		s.taken = true
	}
	for s.free < n || n == oneStack && s.large > 0 && !s.taken {
		s.changed.Wait()
	}
	s.free -= n
}

func (s *shares) give(n int) {
	s.changed.L.Lock()
	defer s.changed.L.Unlock()
	s.free += n
	if n == severalHosts {
		s.taken = false
	}
	s.changed.Broadcast()
}
